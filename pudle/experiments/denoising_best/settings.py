"""Which settings the experiment has."""

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

    train: DataSet = Field(description="Data set to train on; or `folder:PATH`, a folder of your own images.")
    test: DataSet = Field(description="Data set to test on; another one than `train`; or `folder:PATH`.")
    sigma: Positive = Field(description="Standard deviation σ of the noise in grey levels of 255.")
    n_filters: Count = Field(description="Filters p.")
    kernel: Annotated[int, within(2)] = Field(description="Height and width k of a filter.")
    stride: Count = Field(description="Pixels between neighbouring codes.")
    networks: dict[str, TrainedNetwork | Null] = Field(
        min_length=1,
        description=(
            "Each network and its training by a name. n_layers, step and lam as elsewhere; `untied`: analysis filters "
            "and decoder of their own; `learn_thresholds`: a threshold for each filter, from step times lam on; "
            "`scaling`: filters rescaled to norm 1 after every update (`unit-norm`), or divided by ‖D‖ once, before "
            "training (`operator-norm`); crop, batch, updates, learning_rate, adam_eps; `margin`: pixels along the "
            "border of a crop that the loss leaves out; `schedule`: `constant`, or `cosine` down to 0; evaluate_every: "
            "updates between evaluations; shift_average_every: between those averaged over shifts, which there are "
            "none of unless given. null leaves a network out."
        ),
    )

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.train == self.test:
            raise Misfit("the test images must not be those trained on", ["train"], ["test"])
        if self.stride > self.kernel:
            raise Misfit("pixels between the filters would not be covered", ["stride"], ["kernel"])
        for name, network in self.networks.items():
            if network is None:
                continue
            crop, place = ["networks", name, "crop"], ["networks", name]
            if network.crop < self.kernel or (network.crop - self.kernel) % self.stride:
                raise Misfit(f"crop must be kernel = {self.kernel} plus a multiple of stride", crop, ["stride"])
            if 2 * (network.margin or 0) >= network.crop:
                raise Misfit("the loss would be left with nothing of the crops", [*place, "margin"], crop)
        return self
