"""Recurrent video prediction: cells, models, data, metrics and training.

The parts live in their own modules and are imported from there:

>>> from vidpred.cells import STGRUCell
>>> from vidpred.models import zoo
"""

from importlib.metadata import version

__version__ = version("vidpred")
