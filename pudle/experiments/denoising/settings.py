"""Which settings the experiment has."""

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
    """A denoiser to compare with; what it does not know are settings of the plug-in."""

    sigmas: Several[Positive] = None


class Settings(Section):
    """The section ``experiments.denoising`` of the configuration."""

    train: DataSet = Field(
        description=(
            "Data set to train on: skimage-train, skimage-test, bsd68, cbsd432, set12, or `folder:PATH` for a folder "
            "of your own images."
        ),
    )
    test: Several[DataSet] = Field(
        description=(
            "Data sets to test on; none of their images may be in `train`. The first one is that of published values "
            "and figures."
        ),
    )
    sigma: Positive = Field(
        description="Standard deviation σ of the noise in grey levels of 255, where the settings are compared.",
    )
    sigmas: Distinct[Positive] = Field(
        description=(
            "Standard deviations of noise at which dec and ae-ls (with λ in proportion to σ) and the denoisers are compared."
        ),
    )
    n_filters: Count = Field(description="Filters p.")
    kernel: Annotated[int, within(2)] = Field(description="Height and width k of a filter.")
    stride: Count = Field(description="Pixels between neighbouring codes.")
    n_layers: Count = Field(description="Layers T.")
    step: Positive = Field(description="Step size α.")
    lam: Positive = Field(
        description="Sparsity level λ of ae-lasso, of the variants and, times σ / `sigma`, of other noises; one of `lams`.",
    )
    lams: Several[Positive] = Field(description="Sparsity levels λ; a cell each for dec and for ae-ls.")
    thresholds: Distinct[Positive] = Field(description="Hard thresholds b in the place of λ; a cell of ae-ls each.")
    estimators: Several[Estimator] = Field(description="Gradients; a cell each, ae-lasso at `lam` alone.")
    loss: Literal["mean", "sum"] = Field(
        description=(
            "`mean`, as the paper trained: ½(x − Dz)² averaged over pixels, plus (ae-lasso) λ times Σ|z| over filters "
            "averaged over the positions of codes. `sum`: ½‖x − Dz‖² + λ‖z‖₁ of a crop. The gradient of `mean` is that "
            "of `sum` divided by the pixels of a crop, but for the weight of ℓ1, and Adam's eps is large against it."
        ),
    )
    variants: dict[str, Variant | Null] = Field(
        description=(
            "Variants of ae-ls, or of `estimators`, at `lam` by their names, each with what it changes: `loss`, "
            "`learn_thresholds` (a soft threshold for each filter), `untied` (analysis filters and a decoder of their "
            "own), `shift_average` (test images denoised at all shifts of the grid of codes, reflected at their edges, "
            "and averaged), `scaling` (`unit-norm` filters, or ‖D‖ = 1 at the start and free then: `operator-norm`), "
            "or `n_layers`, `step`, `lam`, `crop`, `batch`, `updates`, `evaluate_every`, `evaluate_at`, "
            "`learning_rate`, `schedule` and `adam_eps`. null leaves one out."
        ),
    )
    crop: Annotated[int, within(2)] = Field(
        description="Height and width of the training crops; kernel plus a multiple of stride."
    )
    batch: Count = Field(description="Crops per update.")
    updates: Count = Field(description="Updates of Adam.")
    evaluate_every: Count = Field(description="Updates between evaluations on the test images.")
    evaluate_at: Distinct[Natural] = Field(description="Further updates after which the test images are evaluated.")
    learning_rate: Positive = Field(description="Learning rate of Adam.")
    schedule: Literal["constant", "cosine"] = Field(
        description="Learning rate over updates: constant, or lowered to nothing along a cosine.",
    )
    adam_eps: Positive = Field(description="Adam's eps. Where it is large against the gradients the scale of the loss matters.")
    denoisers: dict[str, Compared | Null] = Field(
        description=(
            "Denoisers to compare with, each with the settings that differ from its own defaults: `name: {}`, or "
            "`label: {denoiser: name, …}` for a variant of one; null leaves one out. `pudle denoisers` lists the "
            "names. `sigmas`, beside the settings, are the noises to run it at; all of them unless given."
        ),
    )
    time_limit: Positive = Field(description="Seconds after which a seed of a denoiser ends as stalled.")

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.train in self.test:
            raise Misfit("the test images must not be those trained on", ["train"], ["test"])
        if self.lam not in self.lams:
            raise Misfit("λ of what is compared at one λ must be one of the grid", ["lam"], ["lams"])
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
        raise Misfit("pixels between the filters would not be covered", key("stride"), key("kernel"))
