"""Reading and checking the configuration. An error names the file, the line, the key, the value, and the nearest valid choice.

Settings are pydantic models derived from :class:`Model`; :func:`validate` turns the errors of pydantic into such messages.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pudle.errors import PudleError, nearest, shown

LARGEST = 10**12  # the largest integer that a setting may have
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast loader in C, if PyYAML has it: planning reads a dozen files


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


class Misfit(ValueError):
    """Settings contradict each other. Validators of models raise this error, and :func:`validate` adds files, lines and values.

    reason : the reason, without the values
    places : for each value that is involved, the keys that lead to it from the model; the validated value itself unless given
    complete : whether ``reason`` includes the value
    """

    def __init__(self, reason: str, *places: Sequence[object], complete: bool = False):
        super().__init__(reason)
        self.places, self.complete = places, complete


class UnknownKey(ValueError):
    """A key is unknown to a model; ``allowed`` are the keys of the model."""

    def __init__(self, key: str, allowed: Iterable[str]):
        super().__init__(f"unknown key {key!r}")
        self.key, self.allowed = key, allowed


class Model(BaseModel):
    """Base class of models of settings, with typed fields. Unknown keys, numbers in quotes, NaN and infinity are errors.

    A field with a default may be left out. It then has this value; with the default None it has none, and stays left out. null is an error
    unless the type of the field includes None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and cls.model_config["extra"] == "forbid":
            for key in values:
                if key not in cls.model_fields:
                    raise UnknownKey(key, cls.model_fields)
        return values

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The values of fields that are left out, without fields that then have none."""
        found = {
            name: field.get_default(call_default_factory=True)
            for name, field in cls.model_fields.items()
            if not field.is_required()
        }
        return {name: value for name, value in found.items() if value is not None}

    def changes(self) -> dict[str, Any]:
        """The settings that were given explicitly."""
        return {key: getattr(self, key) for key in self.model_fields_set}


def _distinct(values: list) -> list:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise Misfit(f"has an entry twice: {shown(value)}", complete=True)
    return values


def within(least: int, most: int = LARGEST) -> Any:
    """The range of a type ``Annotated[int, within(least, most)]``. Give a type one range only: of two, pydantic silently ignores one."""
    return Field(ge=least, le=most)


T = TypeVar("T")
Null = Annotated[None, Field()]  # `X | Null` is the type `X | None`, but messages say "or null"
Natural = Annotated[int, within(0)]
Count = Annotated[int, within(1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Distinct = Annotated[list[T], AfterValidator(_distinct)]
Several = Annotated[list[T], Field(min_length=1), AfterValidator(_distinct)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+()-]*$", max_length=60)]  # of a file, a column and in HTML
Seeds = Annotated[int, within(1, 10_000)] | Several[Natural]


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


def validate(
    model: type[Model],
    config: object,
    sources: Sources,
    prefix: Sequence[str] = (),
    context: Mapping[str, Any] = MappingProxyType({}),
) -> Model:
    """``config`` as an instance of ``model``. Raises a :class:`PudleError` for the first invalid value.

    Unknown keys are reported first, and values higher in the tree before lower ones.

    prefix : the keys that lead from the top of the files to ``config``
    context : values that validators of the model read
    """
    _refuse_keys_that_are_no_text(config, sources, prefix)
    try:
        return model.model_validate(config, context=dict(context))
    except ValidationError as failure:
        path, complaint, misfit = first_complaint(failure, config)
    keys = [*prefix, *path]
    if isinstance(misfit, UnknownKey):
        keys.append(misfit.key)
        raise PudleError(f"{sources.where(keys)}: unknown key {_dotted(keys)!r}{nearest(misfit.key, misfit.allowed)}")
    if isinstance(misfit, Misfit) and len(misfit.places) > 1:
        values = " and ".join(
            f"{_dotted([*keys, *place])} = {_at(config, [*path, *place])} ({sources.where([*keys, *place])})"
            for place in misfit.places
        )
        raise PudleError(f"{values} cannot work together: {misfit}")
    if isinstance(misfit, Misfit) and misfit.places:
        path = [*path, *misfit.places[0]]
        keys = [*prefix, *path]
        complaint = f": {misfit}" if misfit.complete else f" is {shown(_at(config, path))}: {misfit}"
    raise PudleError(f"{sources.where(keys)}: {_dotted(keys)!r}{complaint}")


def first_complaint(failure: ValidationError, config: object) -> tuple[list, str, Exception | None]:
    """The first error of a failed validation of ``config``.

    Returns the keys that lead to the value, the complaint (the part of a message after the key), and the exception that a validator
    of ours raised, if there is one.
    """
    errors = failure.errors(include_url=False)
    paths = [_inside(config, error["loc"]) for error in errors]
    found = [  # for a union, the complaints of the branch whose type the value has
        (error, path)
        for error, path in zip(errors, paths, strict=True)
        if not (_is_about_type(error) and any(other != path and other[: len(path)] == path for other in paths))
    ]
    first, keys = min(found, key=lambda pair: (not isinstance(_raised(pair[0]), UnknownKey), len(pair[1])))
    branches = [error for error, path in found if path == keys]
    ranges = [error for error in branches if not _is_about_type(error)]
    if ranges or first["type"] not in KINDS:
        error = ranges[0] if ranges else first
        others = [KINDS[other["type"]] for other in branches if other["type"] in KINDS and error["type"] == "literal_error"]
        return keys, " Or a value of type ".join([_complaint(error), *others]), _raised(error)
    kinds = " or ".join(KINDS.get(error["type"]) or error["ctx"]["expected"] for error in branches)
    return keys, f" is {shown(first['input'])}, not of type {kinds}{yaml_hint(first['input'])}", None


KINDS = {
    "int_type": "integer",
    "float_type": "number",
    "bool_type": "boolean",
    "string_type": "string",
    "list_type": "array",
    "tuple_type": "array",
    "dict_type": "object",
    "model_type": "object",
    "none_required": "null",
}


def _is_about_type(error: Mapping) -> bool:
    return error["type"] in KINDS or (error["type"] == "literal_error" and not isinstance(error["input"], str))


def _raised(error: Mapping) -> Exception | None:
    """The exception that a validator raised; None if pydantic itself found the error."""
    return error.get("ctx", {}).get("error")


def _inside(config: Any, location: Sequence[Any]) -> list:
    """The keys of ``config`` in a location of pydantic, which also contains branches of unions and missing keys."""
    path = []
    for key in location:
        if (isinstance(config, Mapping) and key in config) or (
            isinstance(config, list) and isinstance(key, int) and key < len(config)
        ):
            config = config[key]
            path.append(key)
    return path


def _at(config: Any, path: Sequence[object]) -> object:
    for key in path:
        config = config[key]
    return config


def _refuse_keys_that_are_no_text(value: object, sources: Sources, keys: Sequence[object]) -> None:
    for key, inside in value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, Mapping) and not isinstance(key, str):
            raise PudleError(
                f"{sources.where([*keys, key])}: {_dotted(keys)!r} has the key {key!r}, which is not a string; quote it"
            )
        _refuse_keys_that_are_no_text(inside, sources, [*keys, key])


def _dotted(keys: Sequence[object]) -> str:
    return ".".join(map(str, keys)) or "the configuration"


def _complaint(error: Mapping) -> str:
    """The part of a message after the key."""
    value, limits = shown(error["input"]), error.get("ctx", {})
    match error["type"]:
        case "literal_error":
            return f" is {value}{nearest(error['input'], re.findall(QUOTED, limits['expected']))}"
        case "missing" if isinstance(error["loc"][-1], int):
            return f" is {value}: too few entries; it lacks the entry {error['loc'][-1]}"
        case "missing":
            return f" lacks the key {error['loc'][-1]!r}"
        case "greater_than_equal":
            return f" is {value}, below the least allowed value {limits['ge']:.15g}"
        case "greater_than":
            return f" is {value}; it must be above {limits['gt']:.15g}"
        case "less_than_equal":
            return f" is {value}, above the largest allowed value {limits['le']:.15g}"
        case "less_than":
            return f" is {value}; it must be below {limits['lt']:.15g}"
        case "too_short":
            return f" is {value}: too few entries; at least {limits['min_length']}"
        case "string_too_short":
            return f" is {value}: too few characters; at least {limits['min_length']}"
        case "string_too_long":
            return f" is {value}: too many characters; at most {limits['max_length']}"
        case "string_pattern_mismatch":
            return f" is {value}, which does not match {limits['pattern']}"
        case "value_error" if isinstance(raised := _raised(error), PudleError) or getattr(raised, "complete", False):
            return f" {raised}" if isinstance(raised, Misfit) else f": {raised}"
        case _:
            message = " ".join(error["msg"].removeprefix("Value error, ").replace("Input should be", "must be").split())
            return f" is {value}: {message[:200]}{yaml_hint(error['input'])}"


QUOTED = r"'([^']*)'"


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
