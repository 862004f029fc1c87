"""Which settings the experiment has."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.section import Section, Signs
from pudle.harness.settings import Count, Distinct, Misfit, NonNegative, Positive, Several, within


class Settings(Section):
    """The section ``experiments.stability`` of the configuration."""

    n_samples: Count = Field(description="Samples n.")
    n_features: Annotated[int, within(2)] = Field(description="Features m of a sample.")
    n_atoms: Count = Field(description="Atoms p.")
    sparsity: Count = Field(description="Non-zeros s of each true code.")
    signs: Signs = Field(description="One random sign per sample (as published) or per non-zero (as the theory assumes).")
    init_noise: NonNegative = Field(description="δ. The dictionary is normalise(D* + δ N(0, 1)).")
    lam: Positive = Field(
        description="Sparsity level λ; the hard threshold is α λ, which cuts the first layer at the same place.",
    )
    thresholding: Several[Literal["soft", "hard"]] = Field(
        description="Soft or hard layers; a cell for each, with each acceleration.",
    )
    accelerations: Several[Literal["none", "fista"]] = Field(description="Layers without or with momentum.")
    steps: Several[Positive] = Field(description="Step sizes α, as shares of 2 / ‖D‖₂².")
    n_layers: Several[Count] = Field(description="Numbers of layers T.")
    truncations: Distinct[Count] = Field(description="How many of the last layers truncated back-propagation goes through.")
    updates: Count = Field(description="Full-batch Adam steps of the short trainings.")
    learning_rate: Positive = Field(description="Adam's learning rate.")
    learning_layers: Count = Field(description="Layers T of the trainings.")

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.sparsity > self.n_atoms:
            raise Misfit("a code cannot have more non-zeros than atoms", ["sparsity"], ["n_atoms"])
        return self
