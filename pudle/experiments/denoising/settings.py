"""The settings of the experiment."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pudle import denoisers
from pudle.experiments._shared import plugin_grid
from pudle.experiments._shared.data_sets import DataSet
from pudle.experiments._shared.section import Estimator, Section
from pudle.harness.settings import Count, Distinct, Misfit, Model, Natural, Null, Positive, Several, within


class Variant(Model):
    estimators: Several[Estimator] = None
    loss: Literal["mean", "sum"] = None
    learn_thresholds: bool = None
    untied: bool = None
    shift_average: bool = None
    scaling: Literal["unit-norm", "operator-norm"] = None
    n_layers: Count = None
    step: Positive = None
    lam: Positive = None
    crop: Annotated[int, within(2)] = None
    batch: Count = None
    updates: Count = None
    evaluate_every: Count = None
    evaluate_at: Distinct[Natural] = None
    learning_rate: Positive = None
    schedule: Literal["constant", "cosine"] = None
    adam_eps: Positive = None


class Compared(Model, extra="allow"):
    """A denoiser to compare with. Other keys are settings of the plug-in."""

    sigmas: Several[Positive] = None


class Settings(Section):
    """The section ``experiments.denoising`` of the configuration."""

    train: DataSet = Field(
        description=(
            "Data set to train on: skimage-train, skimage-test, bsd68, cbsd432, set12, or `folder:PATH` for a folder "
            "with your own images."
        ),
    )
    test: Several[DataSet] = Field(
        description=(
            "Data sets to test on. None of their images may be in `train`. The first one is compared with published values "
            "and shown in figures."
        ),
    )
    sigma: Positive = Field(
        description="Main noise level, at which settings are compared: standard deviation σ in grey levels from 0 to 255.",
    )
    sigmas: Distinct[Positive] = Field(
        description=("Noise levels σ at which dec and ae-ls (with λ in proportion to σ) and the denoisers are compared."),
    )
    n_filters: Count = Field(description="Filters p.")
    kernel: Annotated[int, within(2)] = Field(description="Height and width k of a filter.")
    stride: Count = Field(description="Pixels between neighbouring codes.")
    n_layers: Count = Field(description="Layers T.")
    step: Positive = Field(description="Step size α.")
    lam: Positive = Field(
        description=(
            "Sparsity level λ of ae-lasso and of the variants, one of `lams`. At another noise level σ it is multiplied by "
            "σ / `sigma`."
        ),
    )
    lams: Several[Positive] = Field(description="Sparsity levels λ; each has one cell for dec and one for ae-ls.")
    thresholds: Distinct[Positive] = Field(description="Hard thresholds b, which replace λ; each has a cell for ae-ls.")
    estimators: Several[Estimator] = Field(description="Gradients; each has a cell. ae-lasso is run at `lam` only.")
    loss: Literal["mean", "sum"] = Field(
        description=(
            "`mean`, with which the paper trained, averages ½(x − Dz)² over pixels and, for ae-lasso, adds λ times Σ|z| over "
            "filters averaged over the positions of codes. `sum` is ½‖x − Dz‖² + λ‖z‖₁ of a crop. Except for the weight of the ℓ1 "
            "term, the gradient of `mean` is that of `sum` divided by the number of pixels of a crop, and Adam's eps is large "
            "compared with it."
        ),
    )
    variants: dict[str, Variant | Null] = Field(
        description=(
            "Variants of ae-ls (or of the gradients in `estimators`) at `lam`, by name, each with the settings that it changes: "
            "`loss`, `learn_thresholds` (one soft threshold per filter), `untied` (analysis filters and decoder are learned "
            "separately from D), `shift_average` (estimates of test images are averaged over all shifts of the grid of codes, with "
            "images reflected at their edges), `scaling` (`unit-norm`: filters keep norm 1; `operator-norm`: ‖D‖ = 1 at the start, "
            "without constraint afterwards), `n_layers`, `step`, `lam`, `crop`, `batch`, `updates`, `evaluate_every`, "
            "`evaluate_at`, `learning_rate`, `schedule` and `adam_eps`. null omits a variant."
        ),
    )
    crop: Annotated[int, within(2)] = Field(
        description="Height and width of the training crops, `kernel` plus a multiple of `stride`."
    )
    batch: Count = Field(description="Crops per update.")
    updates: Count = Field(description="Updates of Adam.")
    evaluate_every: Count = Field(description="Updates between evaluations on the test images.")
    evaluate_at: Distinct[Natural] = Field(description="Further updates after which the test images are evaluated.")
    learning_rate: Positive = Field(description="Learning rate of Adam.")
    schedule: Literal["constant", "cosine"] = Field(
        description="Learning rate over updates: constant, or decreasing to 0 along a cosine.",
    )
    adam_eps: Positive = Field(
        description="eps of Adam. If it is large compared with the gradients, results depend on the scale of the loss."
    )
    denoisers: dict[str, Compared | Null] = Field(
        description=(
            "Denoisers to compare with, each with the settings that differ from its defaults: `name: {}`, or "
            "`label: {denoiser: name, …}` for a variant of a denoiser. null omits a denoiser. `pudle denoisers` lists the "
            "names. The key `sigmas` among the settings lists the noise levels to run it at (default: all)."
        ),
    )
    time_limit: Positive = Field(description="Time in seconds after which a seed of a denoiser ends as stalled.")

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.train in self.test:
            raise Misfit("the test images must differ from the training images", ["train"], ["test"])
        if self.lam not in self.lams:
            raise Misfit("lam must be one of lams", ["lam"], ["lams"])
        _refuse_sizes(dict(self), {}, [])
        for name, variant in self.variants.items():
            if variant is not None:
                _refuse_sizes(dict(self), variant.changes(), ["variants", name])
        compared = {label: chosen.changes() for label, chosen in self.denoisers.items() if chosen is not None}
        own = {label: {key: value for key, value in chosen.items() if key != "sigmas"} for label, chosen in compared.items()}
        plugin_grid.check(denoisers.REGISTRY, own, ["denoisers"])
        return self


def _refuse_sizes(settings: dict, changes: dict, place: list[str]) -> None:
    def key(name: str) -> list[str]:
        return [*place, name] if name in changes else [name]

    sizes = settings | changes
    if sizes["crop"] < sizes["kernel"]:
        raise Misfit("the crops are smaller than the filters", key("crop"), key("kernel"))
    if (sizes["crop"] - sizes["kernel"]) % sizes["stride"]:
        reason = f"crop must be kernel = {sizes['kernel']} plus a multiple of stride"
        raise Misfit(reason, key("crop"), key("stride"))
    if sizes["stride"] > sizes["kernel"]:
        raise Misfit("filters would not cover the pixels between them", key("stride"), key("kernel"))
