"""The settings of the experiment."""

from typing import Literal

from pydantic import Field

from pudle.experiments._shared.section import SparseDataSection
from pudle.harness.settings import Count, Distinct, NonNegative, Positive, Several


class Settings(SparseDataSection):
    """The section ``experiments.stability`` of the configuration."""

    init_noise: NonNegative = Field(description="δ. The dictionary is normalise(D* + δ N(0, 1)).")
    lam: Positive = Field(
        description="Sparsity level λ. The hard threshold is α λ, the level of soft layers.",
    )
    thresholding: Several[Literal["soft", "hard"]] = Field(
        description="Soft or hard thresholding; each combination with `accelerations` has a cell.",
    )
    accelerations: Several[Literal["none", "fista"]] = Field(description="Layers without or with momentum.")
    steps: Several[Positive] = Field(description="Step sizes α, as shares of 2 / ‖D‖₂².")
    n_layers: Several[Count] = Field(description="Numbers of layers T.")
    truncations: Distinct[Count] = Field(description="Numbers of last layers that truncated back-propagation passes through.")
    updates: Count = Field(description="Full-batch Adam steps of the short trainings.")
    learning_rate: Positive = Field(description="Learning rate of Adam.")
    learning_layers: Count = Field(description="Layers T of the trainings.")
