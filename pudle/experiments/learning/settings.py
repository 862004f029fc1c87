"""Which settings the experiment has."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.section import Estimator, Section, Signs
from pudle.harness.settings import Count, Misfit, NonNegative, Positive, Several, within


class Settings(Section):
    """The section ``experiments.learning`` of the configuration."""

    n_samples: Count = Field(description="Samples n.")
    n_features: Annotated[int, within(2)] = Field(description="Features m of a sample.")
    n_atoms: Count = Field(description="Atoms p.")
    sparsity: Count = Field(description="Non-zeros s of each true code.")
    signs: Signs = Field(description="One random sign per sample (as published) or per non-zero (as the theory assumes).")
    init_noise: NonNegative = Field(description="δ. The initial dictionary is normalise(D* + δ N(0, 1)).")
    lam: Positive = Field(description="Sparsity level λ.")
    step: Positive = Field(description="Step size α.")
    n_layers: Several[Count] = Field(description="Numbers of layers T; a cell each.")
    estimators: Several[Estimator] = Field(description="Gradients; a cell each.")
    updates: Count = Field(description="Full-batch updates of Adam.")
    learning_rate: Positive = Field(description="Learning rate of Adam.")
    adam_eps: Positive = Field(description="Adam's eps. Where it is large against the gradients the scale of the loss matters.")

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.sparsity > self.n_atoms:
            raise Misfit("a code cannot have more non-zeros than atoms", ["sparsity"], ["n_atoms"])
        return self
