"""Names of data sets in a configuration. Data sets with missing files are an error, unless cells may be taken from a reference."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationInfo

from pudle.data import catalogue

MISSING_ALLOWED = {"data may be missing": True}  # context of a validation that accepts data sets with missing files


def found_by(find: Callable[[str, Path], object], optional: Collection[str]) -> AfterValidator:
    """The check that ``find(data set, catalogue.data_root())`` raises no :class:`pudle.errors.PudleError`.

    Under :data:`MISSING_ALLOWED` the data sets in ``optional`` are not checked; unknown names and folders of the user are.
    """

    def check(data_set: str, info: ValidationInfo) -> str:
        if not (info.context == MISSING_ALLOWED and data_set in optional):
            find(data_set, catalogue.data_root())
        return data_set

    return AfterValidator(check)


DataSet = Annotated[str, found_by(catalogue.find_folder, catalogue.FOLDERS)]  # images: the name of a data set, or folder:PATH
Digits = Annotated[Literal["digits", "mnist"], found_by(catalogue.find_digits, catalogue.DIGITS)]
