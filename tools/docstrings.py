"""Docstrings of pudle as Markdown, for mkdocstrings: roles, formulas and lists of parameters."""

import re
from collections.abc import Callable

import griffe
from latex2mathml.converter import convert

import pudle

ROLE = re.compile(r":(?:class|func|mod|meth|data):`~?([^`]+)`")
FORMULA = re.compile(r":math:`([^`]+)`")
BLOCK = re.compile(r"^\.\. math::\n((?:(?:    .*)?\n?)+)", re.MULTILINE)
LITERAL = re.compile(r"::$", re.MULTILINE)  # before an indented block of code
PARAMETER = re.compile(r"^(\w+(?:, \w+)*) : ", re.MULTILINE)


def markdown(text: str, path: Callable[[str], str] | None = None) -> str:
    """The Markdown of a docstring: ``name : meaning`` is an item of a list, roles are code, formulas MathML.

    path : full path of a name in a role; a name whose path is in the reference becomes a link to it
    """
    text = BLOCK.sub(lambda found: f"\n{_mathml(found[1], 'block')}\n\n", text)
    text = FORMULA.sub(lambda found: _mathml(found[1], "inline"), text)
    text = LITERAL.sub(":", text)
    text = ROLE.sub(lambda found: _link(found[1], path(found[1])) if path else f"`{found[1]}`", text)
    lines: list[str] = []
    for line in text.splitlines():
        item = PARAMETER.sub(r"- **\1**: ", line)
        if item != line and lines and lines[-1] and not lines[-1].startswith(("- **", "    ")):
            lines.append("")
        lines.append(item)
    return "\n".join(lines)


def _link(name: str, path: str) -> str:
    return f'<autoref identifier="{path}" optional><code>{name}</code></autoref>'


def _path(name: str, obj: griffe.Object) -> str:
    """The full path of a ``name`` in the docstring of ``obj``: a name of pudle itself, or one that the module has."""
    home, _, last = name.rpartition(".")
    if home == "pudle" and last in pudle._HOME:
        return f"pudle.{pudle._HOME[last]}.{last}"
    if name == "PudleError":  # which modules name that do not import it
        return "pudle.errors.PudleError"
    try:
        return name if home else obj.resolve(name)
    except griffe.NameResolutionError:
        return name


def _mathml(formula: str, display: str) -> str:
    return convert(" ".join(formula.split()), display=display)


class Docstrings(griffe.Extension):
    """Rewrites every docstring once, when its object is loaded."""

    def on_object(self, *, obj, **kwargs) -> None:
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value, lambda name: _path(name, obj))
