"""Errors as a user reads them: which are the input's fault, and what they say in one line."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterable

_WORKER_GONE = "DataLoader worker (pid"


def is_input_error(error: Exception) -> bool:
    """Whether the input or the machine is at fault, not the program.

    Args:
        error: Any error.

    Example:
        >>> is_input_error(ValueError("layers=0")), is_input_error(KeyError("layers"))
        (True, False)
    """
    kinds = (
        ValueError,
        TypeError,
        OSError,
        FloatingPointError,
        ImportError,
        argparse.ArgumentError,
    )
    # Not imported for their names' sake: Lightning and torch take seconds.
    others = {"MisconfigurationException", "OutOfMemoryError", "ParserError"}
    gone = str(error).startswith(_WORKER_GONE)  # of no class of its own
    return isinstance(error, kinds) or type(error).__name__ in others or gone


def one_line(message: str) -> str:
    """Shorten an error message to one line.

    The argument parser reports an error in a nested setting over many lines: the way down to it,
    and all other types that it could have had. What helps is the setting's name, what it takes and
    what it got; for an unknown name also those there are.

    Args:
        message: Any message.

    Returns:
        The line, without line break.

    Example:
        >>> print(one_line('''Parser key "model":
        ...   Does not validate against any of the Union subtypes
        ...   Subtypes: [<class 'LightningModule'>, <class 'NoneType'>]
        ...   Errors:
        ...     - Problem with given class_path 'vidpred.tasks.ForecastTask':
        ...         Parser key "context_length":
        ...           Expected a <class 'int'>. Got value: x
        ...     - Expected a <class 'NoneType'>
        ...   Given value type: <class 'str'>'''))
        model.context_length: expected int, got x
        >>> print(one_line("  - -1 is not in bounds"))
        -1 is not in bounds
    """
    if re.match(r"Caught \w+ in DataLoader worker", message):
        message = message.strip().splitlines()[-1].partition(": ")[2]
    if message.startswith(_WORKER_GONE):
        message = (
            "a worker process of the data was killed, as where memory ends: use fewer num_workers "
            f"or a smaller batch_size ({message.strip()})"
        )
    keys = re.findall(r'Parser key "([^"]+)"', message)
    paths = re.findall(r"class_path[ =]'([^']+)'", message)
    lines = [_FRAME.sub("", line).strip() for line in message.splitlines()]
    others = [x for x in lines if x and not _NOISE.match(x) and not _EXPECTED.match(x)]
    reason = "; ".join(dict.fromkeys([*filter(None, [_mismatch(lines)]), *others]))
    if unknown := re.search(r"module '([\w.]+)' has no attribute '\w+'", reason):
        reason = "; expected one of ".join(filter(None, [unknown[0], _names(unknown[1])]))
    elif reason.startswith("Option ") and paths:
        reason += f" by {paths[-1]}"
    if reason == "Unexpected config:":
        reason = "a configuration file is empty: expected settings such as model, data, trainer"
    return ": ".join(filter(None, [".".join(dict.fromkeys(keys)), reason]))


_FRAME = re.compile(
    r"""^(\s|-\s)*((Parser\ key\ "[^"]+":|Problem\ with\ given\ class_path\ '[^']+':
    |Type\ \S*Callable.*?expects\ a\ function\ or\ a\ callable\ class:)\s*)*
    |\.+\ Got\ value:\ Namespace.*""",
    re.VERBOSE,
)
_NOISE = re.compile(
    "Does not validate against any|Subtypes: |Errors:|Given value|Expected a path but "
)
_EXPECTED = re.compile(
    r"Expected a (?:<class '(?:\w+\.)*(?P<type>\w+)'>|typing\.Literal\[(?P<values>.*?)\])"
    r"(?:\. Got value: (?P<got>.*))?$"
    r"|Expected a dot import (?P<path>path) string: (?P<name>.*)"
)


def _mismatch(lines: Iterable[str]) -> str:
    """What a setting takes, of all the types it could have had, and what it got."""
    text = "\n".join(lines)
    kinds: dict[str, None] = {}
    got = re.search(r"^Given value: (.*)", text, re.MULTILINE)  # the first is the innermost
    value = got[1] if got else ""
    for found in filter(None, map(_EXPECTED.match, text.splitlines())):
        if found["path"]:
            names = ["module.Class"]
        elif found["values"]:
            names = [name.strip("'\"") for name in found["values"].split(", ")]
        elif found["type"] == "tuple" and (parts := re.search(r"tuple(\[[\w, .]+\])", text)):
            names = [parts[1]]  # as YAML writes it
        else:
            names = [found["type"]]
        kinds |= dict.fromkeys(name for name in names if name != "NoneType")
        value = found["got"] or found["name"] or value
    return f"expected {' or '.join(kinds)}, got {value}" if kinds else ""


def _names(module: str) -> str:
    """Public classes and functions of a module that a setting may name."""
    content = vars(importlib.import_module(module))
    names = content.get("__all__", content)
    kinds = {name: content[name] for name in names if not name.startswith("_")}
    settings = (
        name
        for name, x in kinds.items()
        if callable(x)
        and str(getattr(x, "__module__", "")).startswith(module)
        and not (isinstance(x, type) and issubclass(x, tuple))  # states and flows
    )
    return ", ".join(sorted(settings))
