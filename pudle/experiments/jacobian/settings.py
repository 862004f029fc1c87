"""Which settings the experiment has."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.section import Section
from pudle.harness.settings import Count, Distinct, Misfit, NonNegative, Positive, within


class Settings(Section):
    """The section ``experiments.jacobian`` of the configuration."""

    n_samples: Count = Field(description="Samples n; each has a Jacobian of p x m p numbers.")
    n_features: Annotated[int, within(2)] = Field(description="Features m of a sample.")
    n_atoms: Count = Field(description="Atoms p.")
    active: Positive = Field(le=1, description="Probability that an entry of a true code is not zero; it is Gaussian then.")
    noise: NonNegative = Field(description="Standard deviation of the noise on x.")
    lam: Positive = Field(description="Sparsity level λ.")
    step: Positive = Field(description="Step size, as a share of 1 / ‖D‖₂².")
    n_layers: Annotated[int, within(2)] = Field(description="Layers T.")
    truncations: Distinct[Count] = Field(description="How many of the last layers truncated Jacobians go through.")

    @model_validator(mode="after")
    def fits(self) -> Self:
        if max(self.truncations, default=0) > self.n_layers:
            raise Misfit("there are not that many layers to go back through", ["truncations"], ["n_layers"])
        return self
