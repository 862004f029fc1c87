"""Docstrings of pudle as Markdown, for mkdocstrings: roles, formulas and lists of parameters."""

import re

import griffe
from latex2mathml.converter import convert

ROLE = re.compile(r":(?:class|func|mod|meth|data):`~?([^`]+)`")
FORMULA = re.compile(r":math:`([^`]+)`")
BLOCK = re.compile(r"^\.\. math::\n((?:(?:    .*)?\n?)+)", re.MULTILINE)
PARAMETER = re.compile(r"^(\w+(?:, \w+)*) : ", re.MULTILINE)


def markdown(text: str) -> str:
    """The Markdown of a docstring: ``name : meaning`` is an item of a list, roles are code, formulas MathML."""
    text = BLOCK.sub(lambda found: f"\n{_mathml(found[1], 'block')}\n\n", text)
    text = FORMULA.sub(lambda found: _mathml(found[1], "inline"), text)
    text = ROLE.sub(r"`\1`", text)
    lines: list[str] = []
    for line in text.splitlines():
        item = PARAMETER.sub(r"- **\1**: ", line)
        if item != line and lines and lines[-1] and not lines[-1].startswith(("- **", "    ")):
            lines.append("")
        lines.append(item)
    return "\n".join(lines)


def _mathml(formula: str, display: str) -> str:
    return convert(" ".join(formula.split()), display=display)


class Docstrings(griffe.Extension):
    """Rewrites every docstring once, when its object is loaded."""

    def on_object(self, *, obj, **kwargs) -> None:
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
