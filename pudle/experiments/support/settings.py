"""The settings of the experiment."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.section import Section
from pudle.harness.settings import Count, Misfit, NonNegative, Positive, Several, within


class Settings(Section):
    """The section ``experiments.support`` of the configuration."""

    n_samples: Count = Field(description="Samples n.")
    n_features: Annotated[int, within(2)] = Field(
        description="Features m of a sample; a power of 2 with `two-bases`. There are p = 2 m atoms."
    )
    dictionaries: Several[Literal["gaussian", "two-bases"]] = Field(
        description="True dictionaries: Gaussian atoms, or two orthonormal bases with coherence 1/√m; each has a cell.",
    )
    sparsity: Several[Count] = Field(description="Numbers s of non-zeros of each true code.")
    init_noise: Several[NonNegative] = Field(description="Values of δ. The dictionary is normalise(D* + δ N(0, 1)).")
    lams: Several[Positive] = Field(description="Sparsity levels λ.")
    step: Positive = Field(le=1, description="Step size α; the sufficient condition requires at most 1.")
    n_layers: Annotated[int, within(2)] = Field(description="Layers T; supports are tested after each layer.")
    low: Positive = Field(description="Smallest size of a non-zero.")
    high: Positive = Field(description="Largest size of a non-zero.")

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.n_features & (self.n_features - 1) and "two-bases" in self.dictionaries:
            raise Misfit("the dictionary two-bases requires a power of 2", ["n_features"], ["dictionaries"])
        if self.low > self.high:
            raise Misfit("low must be at most high", ["low"], ["high"])
        if max(self.sparsity) > 2 * self.n_features:
            raise Misfit("a code cannot have more non-zeros than atoms", ["sparsity"], ["n_features"])
        return self
