"""``python -m vidpred`` is the command ``vidpred``."""

import sys

from vidpred.cli import main

sys.exit(main())
