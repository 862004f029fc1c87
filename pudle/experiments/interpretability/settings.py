"""Which settings the experiment has."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.data_sets import Digits
from pudle.experiments._shared.section import Estimator, Section
from pudle.harness.settings import Count, Distinct, Misfit, Model, NonNegative, Null, Positive, Several, within

Contributors = Annotated[int, within(20)] | Null


class OfDec(Model):
    """What is different where dec is trained; described in :class:`Settings`."""

    data_set: Digits = None
    classes: Several[Annotated[int, within(0, 9)]] = None
    n_atoms: Count = None
    lam: Positive = None
    step: Positive = None
    weight_decay: NonNegative = None
    ridge: Positive | Null = None
    batch: Count = None
    epochs: Count = None
    learning_rate: Positive = None
    adam_eps: Positive = None
    drop_epochs: Distinct[Count] = None
    evaluate_every: Count = None
    n_contributors: Contributors = None
    n_outputs: Count = None


class Settings(Section):
    """The section ``experiments.interpretability`` of the configuration."""

    data_set: Digits = Field(
        description="scikit-learn's bundled digits (8 x 8), or MNIST (28 x 28) from `data.root`/mnist.",
    )
    classes: Several[Annotated[int, within(0, 9)]] = Field(description="Digits to keep.")
    n_atoms: Count = Field(description="Atoms p.")
    n_layers: Several[Count] = Field(description="Numbers of layers T; a cell each.")
    estimator: Estimator = Field(description="Gradient to train with.")
    dec_layers: Distinct[Count] = Field(
        description="Numbers of layers T at which dec, of which the relation is the stationarity, is trained too; a cell each.",
    )
    lam: Positive = Field(description="Sparsity level λ; codes are one-sided.")
    step: Positive = Field(description="Step size α. Atoms have norm 1 at the start, and are not rescaled.")
    weight_decay: NonNegative = Field(
        description=(
            "w of the penalty w/2 ‖D‖² beside the loss averaged over samples; with 0 `ridge` is needed, and is ω of "
            "the relation."
        ),
    )
    ridge: Positive | Null = Field(
        description="ω of the contributions; null: n w, for which a dictionary that has converged satisfies the relation.",
    )
    batch: Count = Field(description="Images of an update; more than there are: all of them.")
    epochs: Count = Field(description="Passes over the training images.")
    learning_rate: Positive = Field(description="Adam's learning rate at the start.")
    adam_eps: Positive = Field(description="Adam's eps.")
    drop_epochs: Distinct[Count] = Field(description="Epochs after which the learning rate is multiplied by 0.1.")
    evaluate_every: Count = Field(description="Epochs between measurements of the relation.")
    n_contributors: Contributors = Field(
        description="Training images, drawn at random, among which contributions are divided; null: all.",
    )
    n_outputs: Count = Field(description="Test images whose outputs are explained; more than there are: all of them.")

    dec: OfDec = Field(
        description=(
            "Those of the other settings that are different where `dec_layers` are trained; the relation is the stationarity of "
            "full batches with weight decay."
        ),
    )

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.estimator == "dec" and set(self.dec_layers) & set(self.n_layers):
            raise Misfit("'estimator' is dec, and these are trained already", ["dec_layers"], ["n_layers"])
        _refuse_unfit(dict(self), {})
        if self.dec_layers:
            _refuse_unfit(dict(self), self.dec.changes())
        return self


def _refuse_unfit(settings: dict, changes: dict) -> None:
    """``changes`` are those of ``settings`` that stand under ``dec``."""

    def key(name: str) -> list[str]:
        return ["dec", name] if name in changes else [name]

    chosen = settings | changes
    if not chosen["weight_decay"] and chosen["ridge"] is None:
        raise Misfit("without weight decay ω must be given", key("ridge"), key("weight_decay"))
    for epoch in chosen["drop_epochs"]:
        if epoch >= chosen["epochs"]:
            raise Misfit(f"training ends before epoch {epoch}", key("drop_epochs"), key("epochs"))
