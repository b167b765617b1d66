"""The command line in this process."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from vidpred import cli


def vidpred(*arguments: Any) -> tuple[int, str, str]:
    """Run the command; return (exit status, stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, out.getvalue(), err.getvalue()


def succeed(*arguments: Any) -> None:
    """Run the command, which is not to fail."""
    status, _, err = vidpred(*arguments)
    assert status == 0, err
