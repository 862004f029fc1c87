"""The settings of the experiment."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.data_sets import DataSet
from pudle.experiments._shared.section import Section
from pudle.harness.settings import Count, Misfit, Model, Natural, Null, Positive, within


class TrainedNetwork(Model):
    n_layers: Count
    step: Positive
    lam: Positive
    untied: bool = None
    learn_thresholds: bool = None
    scaling: Literal["unit-norm", "operator-norm"] = None
    crop: Annotated[int, within(2)]
    margin: Natural = None
    batch: Count
    updates: Count
    evaluate_every: Count
    shift_average_every: Count = None
    learning_rate: Positive
    adam_eps: Positive
    schedule: Literal["constant", "cosine"] = None


class Settings(Section):
    """The section ``experiments.denoising_best`` of the configuration."""

    train: DataSet = Field(description="Data set to train on, or `folder:PATH` for a folder with your own images.")
    test: DataSet = Field(description="Data set to test on, or `folder:PATH`. It must differ from `train`.")
    sigma: Positive = Field(description="Standard deviation σ of the noise in grey levels from 0 to 255.")
    n_filters: Count = Field(description="Filters p.")
    kernel: Annotated[int, within(2)] = Field(description="Height and width k of a filter.")
    stride: Count = Field(description="Pixels between neighbouring codes.")
    networks: dict[str, TrainedNetwork | Null] = Field(
        min_length=1,
        description=(
            "Networks and their training, by name. `n_layers`, `step`, `lam`, `crop`, `batch`, `updates`, `learning_rate`, "
            "`adam_eps` and `evaluate_every` are as in `denoising`. `untied`: analysis filters and decoder are learned separately "
            "from D. `learn_thresholds`: one threshold per filter is learned, starting from step times lam. `scaling`: filters are "
            "rescaled to norm 1 after every update (`unit-norm`), or divided by ‖D‖ once before training (`operator-norm`). "
            "`margin`: number of pixels along the border of a crop that the loss excludes. `schedule`: `constant`, or `cosine`, "
            "which decreases to 0. `shift_average_every`: updates between evaluations averaged over shifts; without it there are "
            "none. null omits a network."
        ),
    )

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.train == self.test:
            raise Misfit("the test images must differ from the training images", ["train"], ["test"])
        if self.stride > self.kernel:
            raise Misfit("filters would not cover the pixels between them", ["stride"], ["kernel"])
        for name, network in self.networks.items():
            if network is None:
                continue
            crop, place = ["networks", name, "crop"], ["networks", name]
            if network.crop < self.kernel or (network.crop - self.kernel) % self.stride:
                raise Misfit(f"crop must be kernel = {self.kernel} plus a multiple of stride", crop, ["stride"])
            if 2 * (network.margin or 0) >= network.crop:
                raise Misfit("the loss would exclude all pixels of the crops", [*place, "margin"], crop)
        return self
