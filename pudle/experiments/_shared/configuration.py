"""The keys of the configuration outside of the sections of the experiments."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model

from pudle.harness.settings import Count, Distinct, Misfit, Model, Null, Seeds


def _without_braces(folder: str) -> str:
    if set(str(Path(folder).expanduser())) & set("{}"):
        raise Misfit("braces are wildcards to Snakemake; name a folder without")
    return folder


class Data(Model):
    """The section ``data``."""

    root: str = Field(
        min_length=1,
        description="Folder with one sub-folder per data set (bsd68, cbsd432, …). The environment variable PUDLE_DATA wins.",
    )


class Configuration(Model):
    """A configuration without its ``experiments``. Every field has a description, which ``pudle keys`` prints."""

    scale: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="Name of the scale. Outputs go to <results>/<scale>/, and every figure is stamped with it.",
    )
    results: Annotated[str, AfterValidator(_without_braces)] = Field(
        min_length=1, description="Folder for all outputs, relative to the working directory."
    )
    seeds: Seeds = Field(
        description="How many seeds every cell runs (0, 1, …), or a list of them. An experiment's own `seeds` wins."
    )
    threads: Count = Field(
        description="Threads of one cell. Cells run side by side; threads times jobs never exceeds the cores."
    )
    device: Literal["cpu", "cuda", "auto"] = Field(
        description=(
            "Where cells compute: on the processor; on a GPU, which must be there; or, with auto, on a GPU if torch finds one. "
            'See "On a GPU". A cell is the same cell on each of them, but a change of this key runs all of them again.'
        )
    )
    seeds_apart: bool = Field(
        None,
        description=(
            "Whether each seed of a cell is a job, for a cluster, instead of each cell. Results are the same. See docs/cluster.md."
        ),
    )
    plugins: Distinct[Annotated[str, Field(min_length=1)]] = Field(
        None,
        description=(
            "Python files with methods or denoisers of your own, relative to the working directory. See docs/add-a-method.md."
        ),
    )
    reference: Annotated[str, Field(min_length=1)] | Null = Field(
        None,
        description=(
            "Folder of reference results, relative to the working directory, or to the checkout where there is none: a cell that "
            "stands there with the same settings and seeds is taken instead of computed. null computes every cell. See "
            "docs/reference.md."
        ),
    )
    data: Data = Field(description="Where image data sets lie.")


def configuration_of(experiments: tuple[str, ...]) -> type[Configuration]:
    """The model of a configuration with a section, of any keys, or null for each of ``experiments``."""
    sections = create_model("Experiments", __base__=Model, **dict.fromkeys(experiments, (dict[str, Any] | Null, None)))
    described = Field(description="One section per experiment; null switches an experiment off.")
    return create_model("Configuration", __base__=Configuration, experiments=(sections, described))
