"""Turns the reStructuredText that docstrings use for mathematics and names into Markdown.

Editors and ``help()`` show the docstrings as they stand; mkdocstrings reads Markdown.
"""

import re
from typing import Any

import griffe

MATH_BLOCK = re.compile(r"^\.\. math::\n\n?((?:[ \t]+\S.*(?:\n|\Z)|[ \t]*\n)+)", re.MULTILINE)
MATH = re.compile(r":math:`([^`]+)`")
NAME = re.compile(r":(class|func|meth|mod|attr|data):`~?([^`]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


def _block(match: re.Match[str]) -> str:
    return f"$$\n\\begin{{aligned}}\n{match[1].strip()}\n\\end{{aligned}}\n$$\n\n"


def _name(match: re.Match[str]) -> str:
    role, path = match.groups()
    owner, _, name = path.rpartition(".")
    shown = f"`{name}`"
    if role == "attr":  # has no heading of its own, but stands in the table of its class
        path = owner
    return f"[{shown}][{path}]" if path.startswith("vidpred.") else shown


def to_markdown(text: str) -> str:
    """Return the docstring with its math, its cross-references and its example in Markdown."""
    text = MATH_BLOCK.sub(_block, text)
    text = MATH.sub(r"$\1$", text)
    text = NAME.sub(_name, text)
    # The Google style has both words; only the plural is read as doctest lines.
    return EXAMPLE.sub("Examples:", text)


class RestToMarkdown(griffe.Extension):
    """Applies :func:`to_markdown` to every docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
