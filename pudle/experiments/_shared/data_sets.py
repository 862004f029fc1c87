"""Names of image data sets in a configuration."""

from typing import Annotated

from pydantic import AfterValidator

from pudle.data import catalogue


def _is_there(data_set: str) -> str:
    catalogue.find_folder(data_set, catalogue.data_root())
    return data_set


DataSet = Annotated[str, AfterValidator(_is_there)]  # a data set, or folder:PATH, whose images are there
