"""The keys of the configuration outside the sections of the experiments."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model

from pudle.harness.settings import Count, Distinct, Misfit, Model, Null, Seeds


def _without_braces(folder: str) -> str:
    if set(str(Path(folder).expanduser())) & set("{}"):
        raise Misfit("Snakemake reads braces as wildcards; choose a folder without braces in its name")
    return folder


class Data(Model):
    """The section ``data``."""

    root: str = Field(
        min_length=1,
        description=(
            "Folder with one sub-folder per data set (bsd68, cbsd432, …). The environment variable PUDLE_DATA takes precedence."
        ),
    )


class Configuration(Model):
    """A configuration without its ``experiments``. Every field has a description, which ``pudle keys`` prints."""

    scale: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="Name of the scale. Outputs are written to <results>/<scale>/, and every figure shows this name.",
    )
    results: Annotated[str, AfterValidator(_without_braces)] = Field(
        min_length=1, description="Folder for all outputs, relative to the working directory."
    )
    seeds: Seeds = Field(
        description=(
            "Number of seeds that every cell runs (0, 1, …), or a list of seeds. The `seeds` of an experiment takes precedence."
        )
    )
    threads: Count = Field(
        description="Threads of one cell. Several cells run at once; threads times jobs never exceeds the number of cores."
    )
    device: Literal["cpu", "cuda", "auto"] = Field(
        description=(
            "Device that computes cells: `cpu`; `cuda`, which requires a GPU; or `auto`, which uses a GPU if torch finds one. "
            'See "On a GPU". The ids of cells do not depend on this key, but changing it computes all cells again.'
        )
    )
    seeds_apart: bool = Field(
        None,
        description=(
            "Whether each seed of a cell is a job of its own, instead of each cell, for clusters. Results are the same. See "
            "docs/cluster.md."
        ),
    )
    batches: Count = Field(
        None,
        description=(
            "Number of submissions among which cells and negative controls are divided, for schedulers. Their sums of measured times "
            "are about equal. Without it, each job is submitted on its own. Results are the same. See docs/cluster.md."
        ),
    )
    plugins: Distinct[Annotated[str, Field(min_length=1)]] = Field(
        None,
        description=(
            "Python files with your own methods or denoisers, relative to the working directory. See docs/add-a-method.md."
        ),
    )
    reference: Annotated[str, Field(min_length=1)] | Null = Field(
        None,
        description=(
            "Folder of reference results, relative to the working directory or, if it is missing there, to the checkout. Cells that "
            "it holds with the same settings and seeds are taken from it instead of being computed. null computes every cell. See "
            "docs/reference.md."
        ),
    )
    data: Data = Field(description="Location of image data sets.")


def configuration_of(experiments: tuple[str, ...]) -> type[Configuration]:
    """The model of a configuration that has, for each of ``experiments``, a section with arbitrary keys, or null."""
    sections = create_model("Experiments", __base__=Model, **dict.fromkeys(experiments, (dict[str, Any] | Null, None)))
    described = Field(description="One section per experiment; null switches an experiment off.")
    return create_model("Configuration", __base__=Configuration, experiments=(sections, described))
