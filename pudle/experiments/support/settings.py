"""Which settings the experiment has."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.section import Section
from pudle.harness.settings import Count, Misfit, NonNegative, Positive, Several, within


class Settings(Section):
    """The section ``experiments.support`` of the configuration."""

    n_samples: Count = Field(description="Samples n.")
    n_features: Annotated[int, within(2)] = Field(description="Features m of a sample, a power of 2; there are p = 2 m atoms.")
    dictionaries: Several[Literal["gaussian", "two-bases"]] = Field(
        description="True dictionaries: Gaussian atoms, or the union of two orthonormal bases of coherence 1/√m; a cell each.",
    )
    sparsity: Several[Count] = Field(description="Non-zeros s of each true code.")
    init_noise: Several[NonNegative] = Field(description="Distances of D from D*, as normalise(D* + δ N(0, 1)).")
    lams: Several[Positive] = Field(description="Sparsity levels λ.")
    step: Positive = Field(le=1, description="Step size α, at most 1 as the conditions ask.")
    n_layers: Annotated[int, within(2)] = Field(description="Layers T; supports are looked at after each of them.")
    low: Positive = Field(description="Smallest size of a non-zero.")
    high: Positive = Field(description="Largest size of a non-zero.")

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.n_features & (self.n_features - 1) and "two-bases" in self.dictionaries:
            raise Misfit("Hadamard's basis needs a power of 2", ["n_features"], ["dictionaries"])
        if self.low > self.high:
            raise Misfit("the smallest size cannot be above the largest", ["low"], ["high"])
        if max(self.sparsity) > 2 * self.n_features:
            raise Misfit("a code cannot have more non-zeros than atoms", ["sparsity"], ["n_features"])
        return self
