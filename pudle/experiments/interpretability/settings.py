"""The settings of the experiment."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.data_sets import Digits
from pudle.experiments._shared.section import Estimator, Section
from pudle.harness.settings import Count, Distinct, Misfit, Model, NonNegative, Null, Positive, Several, within

Contributors = Annotated[int, within(20)] | Null


class OfDec(Model):
    """The settings that differ for the trainings with dec; :class:`Settings` describes them."""

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
    n_layers: Several[Count] = Field(description="Numbers of layers T; each has a cell.")
    estimator: Estimator = Field(description="Gradient to train with.")
    dec_layers: Distinct[Count] = Field(
        description=(
            "Numbers of layers T at which dec is trained as well, since the relation is its stationarity; each has a cell."
        ),
    )
    lam: Positive = Field(description="Sparsity level λ. Codes are non-negative.")
    step: Positive = Field(description="Step size α. Atoms have norm 1 at the start and are not rescaled later.")
    weight_decay: NonNegative = Field(
        description=(
            "Weight w of the penalty w/2 ‖D‖², which is added to the loss averaged over samples. If it is 0, `ridge` is required and "
            "gives ω of the relation."
        ),
    )
    ridge: Positive | Null = Field(
        description=(
            "ω of the contributions. null means n w, with which a dictionary that has converged satisfies the relation."
        ),
    )
    batch: Count = Field(description="Images per update; all images if there are fewer.")
    epochs: Count = Field(description="Passes over the training images.")
    learning_rate: Positive = Field(description="Initial learning rate of Adam.")
    adam_eps: Positive = Field(description="eps of Adam.")
    drop_epochs: Distinct[Count] = Field(description="Epochs after which the learning rate is multiplied by 0.1.")
    evaluate_every: Count = Field(description="Epochs between measurements of the relation.")
    n_contributors: Contributors = Field(
        description="Number of random training images for which contributions are computed; null means all.",
    )
    n_outputs: Count = Field(description="Number of test images whose outputs are explained; all images if there are fewer.")

    dec: OfDec = Field(
        description=(
            "The settings above that differ for the trainings at `dec_layers`. The relation is the stationarity of training in full "
            "batches with weight decay."
        ),
    )

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.estimator == "dec" and set(self.dec_layers) & set(self.n_layers):
            raise Misfit("estimator is dec, so that both lists would train the same networks", ["dec_layers"], ["n_layers"])
        _refuse_unfit(dict(self), {})
        if self.dec_layers:
            _refuse_unfit(dict(self), self.dec.changes())
        return self


def _refuse_unfit(settings: dict, changes: dict) -> None:
    """``changes`` are the settings under ``dec``, which replace those of ``settings``."""

    def key(name: str) -> list[str]:
        return ["dec", name] if name in changes else [name]

    chosen = settings | changes
    if not chosen["weight_decay"] and chosen["ridge"] is None:
        raise Misfit("ridge must be a number if weight_decay is 0", key("ridge"), key("weight_decay"))
    for epoch in chosen["drop_epochs"]:
        if epoch >= chosen["epochs"]:
            raise Misfit(f"training ends before epoch {epoch}", key("drop_epochs"), key("epochs"))
