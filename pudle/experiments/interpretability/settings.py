"""Which settings the experiment has."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pudle.data import catalogue
from pudle.experiments._shared.section import Estimator, Section
from pudle.harness.settings import Count, Distinct, Misfit, Natural, NonNegative, Positive, Several


def is_there(data_set: str) -> str:
    """Raises :class:`pudle.errors.PudleError` if the files of the data set are missing."""
    catalogue.find_digits(data_set, catalogue.data_root())
    return data_set


class Settings(Section):
    """The section ``experiments.interpretability`` of the configuration."""

    data_set: Annotated[Literal["digits", "mnist"], AfterValidator(is_there)] = Field(
        description="scikit-learn's bundled digits (8 x 8), or MNIST (28 x 28) from `data.root`/mnist.",
    )
    classes: Several[Annotated[Natural, Field(le=9)]] = Field(description="Digits to keep.")
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
    ridge: Positive | None = Field(
        description="ω of the contributions; null: n w, for which a dictionary that has converged satisfies the relation.",
    )
    batch: Count = Field(description="Images of an update; more than there are: all of them.")
    epochs: Count = Field(description="Passes over the training images.")
    learning_rate: Positive = Field(description="Adam's learning rate at the start.")
    adam_eps: Positive = Field(description="Adam's eps.")
    drop_epochs: Distinct[Count] = Field(description="Epochs after which the learning rate is multiplied by 0.1.")
    evaluate_every: Count = Field(description="Epochs between measurements of the relation.")
    n_contributors: Annotated[Count, Field(ge=20)] | None = Field(
        description="Training images, drawn at random, among which contributions are divided; null: all.",
    )
    n_outputs: Count = Field(description="Test images whose outputs are explained; more than there are: all of them.")

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.estimator == "dec" and set(self.dec_layers) & set(self.n_layers):
            raise Misfit("'estimator' is dec, and these are trained already", ["dec_layers"], ["n_layers"])
        if not self.weight_decay and self.ridge is None:
            raise Misfit("without weight decay ω must be given", ["ridge"], ["weight_decay"])
        if max(self.drop_epochs, default=0) >= self.epochs:
            raise Misfit(f"training ends before epoch {max(self.drop_epochs)}", ["drop_epochs"], ["epochs"])
        return self
