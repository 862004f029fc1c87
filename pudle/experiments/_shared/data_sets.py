"""Names of data sets in a configuration. A set whose files are missing is refused, unless cells may be taken from a reference."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationInfo

from pudle.data import catalogue

MISSING_ALLOWED = {"data may be missing": True}  # the context of a validation that accepts sets whose files are not there


def found_by(find: Callable[[str, Path], object], optional: Collection[str]) -> AfterValidator:
    """The check that ``find(data set, catalogue.data_root())`` raises no :class:`pudle.errors.PudleError`.

    Under :data:`MISSING_ALLOWED` the sets ``optional`` are not looked for; an unknown name, or a folder of the user's, still is.
    """

    def check(data_set: str, info: ValidationInfo) -> str:
        if not (info.context == MISSING_ALLOWED and data_set in optional):
            find(data_set, catalogue.data_root())
        return data_set

    return AfterValidator(check)


DataSet = Annotated[str, found_by(catalogue.find_folder, catalogue.FOLDERS)]  # of images: a name, or folder:PATH
Digits = Annotated[Literal["digits", "mnist"], found_by(catalogue.find_digits, catalogue.DIGITS)]
