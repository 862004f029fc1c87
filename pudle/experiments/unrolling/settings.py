"""Which settings the experiment has."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.section import Estimator, Section, Signs
from pudle.harness.settings import Count, Misfit, NonNegative, Positive, Several, within


class Settings(Section):
    """The section ``experiments.unrolling`` of the configuration."""

    n_samples: Count = Field(description="Samples n.")
    n_features: Annotated[int, within(2)] = Field(description="Features m of a sample.")
    n_atoms: Count = Field(description="Atoms p.")
    sparsity: Count = Field(description="Non-zeros s of each true code.")
    signs: Signs = Field(description="One random sign per sample (as published) or per non-zero (as the theory assumes).")
    init_noise: NonNegative = Field(description="δ. The dictionary is normalise(D* + δ N(0, 1)).")
    lam: Positive = Field(description="Sparsity level λ.")
    step: Positive = Field(description="Step size α.")
    n_layers: Annotated[int, within(2)] = Field(description="Layers T; everything is measured after each of them.")
    estimators: Several[Estimator] = Field(description="Gradients to measure.")
    dtype: Literal["float32", "float64"] = Field(description="Precision of the run.")

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.sparsity > self.n_atoms:
            raise Misfit("a code cannot have more non-zeros than atoms", ["sparsity"], ["n_atoms"])
        return self
