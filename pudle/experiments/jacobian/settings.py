"""The settings of the experiment."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.section import Section
from pudle.harness.settings import Count, Distinct, Misfit, NonNegative, Positive, within


class Settings(Section):
    """The section ``experiments.jacobian`` of the configuration."""

    n_samples: Count = Field(description="Samples n. The Jacobian of each has p x m p entries.")
    n_features: Annotated[int, within(2)] = Field(description="Features m of a sample.")
    n_atoms: Count = Field(description="Atoms p.")
    active: Positive = Field(le=1, description="Probability that an entry of a true code is non-zero. Non-zeros are Gaussian.")
    noise: NonNegative = Field(description="Standard deviation of the noise on x.")
    lam: Positive = Field(description="Sparsity level λ.")
    step: Positive = Field(description="Step size, as a share of 1 / ‖D‖₂².")
    n_layers: Annotated[int, within(2)] = Field(description="Layers T.")
    truncations: Distinct[Count] = Field(description="Numbers of last layers that truncated Jacobians pass through.")

    @model_validator(mode="after")
    def fits(self) -> Self:
        if max(self.truncations, default=0) > self.n_layers:
            raise Misfit("truncations must be at most n_layers", ["truncations"], ["n_layers"])
        return self
