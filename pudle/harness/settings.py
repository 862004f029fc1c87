"""The configuration, checked: an error names the file, the line, the key, the value, and the nearest valid choice."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jsonschema
import yaml

from pudle.errors import PudleError, nearest, shown

LARGEST = 10**12  # of a whole number
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C, where PyYAML has it: planning reads a dozen files


def read(path: Path) -> Any:
    """The contents of a YAML file of plain values."""
    return YAML(path.read_text(encoding="utf-8")).get_single_data()


def typed(value: object) -> object:
    """``value`` with its strings parsed as YAML. Snakemake leaves values inside of braces or brackets of ``--config`` as strings."""
    if isinstance(value, Mapping):
        return {key: typed(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [typed(part) for part in value]
    try:
        return YAML(value).get_single_data() if isinstance(value, str) else value
    except yaml.YAMLError:
        return value


def _integer(checker: object, value: object) -> bool:
    """1.0 is no count, whatever JSON Schema says."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def _number(checker: object, value: object) -> bool:
    return _integer(checker, value) or (isinstance(value, float) and math.isfinite(value))


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _integer, "number": _number}),
)


class Sources:
    """The files that a configuration was merged from, in order of increasing priority, and the command line. Finds where a key was set.

    Raises :class:`PudleError` if a file cannot be read as YAML, or has a key twice.
    """

    def __init__(self, paths: Iterable[Path] = (), options: Mapping = MappingProxyType({})):
        self._files, self._options = [], options
        for path in paths:
            path = Path(path)
            try:
                tree = yaml.compose(path.read_text(encoding="utf-8"), YAML)
            except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
                raise PudleError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
            _refuse_doubles(path, tree)
            self._files.append((path, tree))

    def where(self, keys: Sequence[object]) -> str:
        """``--config`` if the command line sets ``keys``; otherwise ``file, line n`` of the last file that sets them.

        If they are not set, the place of the nearest key above that is set.
        """
        for depth in range(len(keys), 0, -1):
            if _sets(self._options, keys[:depth]):
                return "--config"
            for path, tree in reversed(self._files):
                node = _find(tree, keys[:depth])
                if node is not None:
                    return f"{path}, line {node.start_mark.line + 1}"
        return "the configuration"


def _sets(options: object, keys: Sequence[object]) -> bool:
    for key in keys:
        if isinstance(options, Mapping):
            if key not in options:
                return False
            options = options[key]
    return True


def _refuse_doubles(path: Path, node: yaml.Node | None, keys: tuple = (), above: tuple = ()) -> None:
    """Raise :class:`PudleError` for duplicate keys and for values that contain themselves, which YAML accepts."""
    if node and any(node is outer for outer in above):
        raise PudleError(f"{path}, line {node.start_mark.line + 1}: {_dotted(keys)!r} contains itself")
    if isinstance(node, yaml.MappingNode):
        lines: dict[tuple, int] = {}
        for name, value in node.value:
            inside, key, line = (*keys, name.value), (name.tag, str(name.value)), name.start_mark.line + 1
            if key in lines:
                raise PudleError(f"{path}: {_dotted(inside)!r} is defined twice, in lines {lines[key]} and {line}; keep one")
            lines[key] = line
            _refuse_doubles(path, value, inside, (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            _refuse_doubles(path, value, (*keys, place), (*above, node))


def _find(node: yaml.Node | None, keys: Sequence[object]) -> yaml.Node | None:
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if _same(name, key)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
        else:
            return None
    return node


def _same(name: yaml.Node, key: object) -> bool:
    """Whether a key of a file is ``key``, which YAML may have read as a number or another type."""
    return name.value == str(key) or (not isinstance(key, str) and typed(name.value) == key)


def validate(config: Mapping, schema: Mapping, sources: Sources, prefix: Sequence[str] = ()) -> None:
    """Raise a :class:`PudleError` for the first thing in ``config`` that breaks the JSON ``schema``.

    ``prefix`` are the keys that lead from the top of the files to ``config``.
    """
    _refuse_keys_that_are_no_text(config, sources, prefix)
    errors = sorted(_Validator(schema).iter_errors(config), key=lambda error: [str(k) for k in error.absolute_path])
    if not errors:
        return
    error = jsonschema.exceptions.best_match(errors)
    keys = [*prefix, *error.absolute_path]
    if error.validator == "additionalProperties":
        allowed = error.schema["properties"]
        unknown = next(key for key in error.instance if key not in allowed)
        keys.append(unknown)
        raise PudleError(f"{sources.where(keys)}: unknown key {_dotted(keys)!r}{nearest(unknown, allowed)}")
    raise PudleError(f"{sources.where(keys)}: {_dotted(keys)!r} {_complaint(error)}")


def _refuse_keys_that_are_no_text(value: object, sources: Sources, keys: Sequence[object]) -> None:
    for key, inside in value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, Mapping) and not isinstance(key, str):
            raise PudleError(
                f"{sources.where([*keys, key])}: {_dotted(keys)!r} has the key {key!r}, which is not a string; "
                "write it in quotes"
            )
        _refuse_keys_that_are_no_text(inside, sources, [*keys, key])


def refuse(
    sources: Sources,
    prefix: Sequence[str],
    first: str,
    second: str,
    settings: Mapping,
    reason: str,
    changes: Mapping = MappingProxyType({}),
    place: Sequence[str] = (),
) -> None:
    """Raise a :class:`PudleError` for two values that cannot work together.

    They stand at ``prefix``, but those of ``settings`` that ``changes`` has stand at ``place``.
    """
    keys = [[*(place if key in changes else prefix), key] for key in (first, second)]
    values = " and ".join(f"{_dotted(k)} = {settings[k[-1]]} ({sources.where(k)})" for k in keys)
    raise PudleError(f"{values} cannot work together: {reason}")


def _dotted(keys: Sequence[object]) -> str:
    return ".".join(map(str, keys)) or "the configuration"


def _complaint(error: jsonschema.ValidationError) -> str:
    value = error.instance
    if error.validator == "enum":
        return f"is {shown(value)}{nearest(value, error.validator_value)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in value)
        return f"lacks the key {missing!r}"
    if error.validator == "type":
        wanted = error.validator_value
        if isinstance(value, int) and abs(value) > LARGEST:
            return f"is {shown(value)}, more than can be run"
        return f"is {shown(value)}, not of type {' or '.join(wanted) if isinstance(wanted, list) else wanted}{yaml_hint(value)}"
    words = {
        "minimum": "is {v}, below the least allowed value {w}",
        "exclusiveMinimum": "is {v}; it must be above {w}",
        "maximum": "is {v}, above the largest allowed value {w}",
        "exclusiveMaximum": "is {v}; it must be below {w}",
        "minItems": "has too few entries: at least {w}",
        "uniqueItems": "has an entry twice: {v}",
        "pattern": "is {v}, which does not match {w}",
    }
    if error.validator in words:
        return words[error.validator].format(v=shown(value), w=error.validator_value)
    return f"is {shown(value)}: {error.message[:200]}"


def yaml_hint(value: object) -> str:
    """The end of an error message for a string ``value`` that looks like a number: how to write the number in YAML."""
    if not (isinstance(value, str) and _is_number(value)):
        return ""
    if "e" in value.lower():
        return f"; YAML reads {value} as text, write it with a point and a signed exponent, such as 1.0e-3"
    return f"; YAML reads {value} as text, write {float(value)!r}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
