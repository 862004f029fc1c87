"""The settings of the experiment."""

from pydantic import Field

from pudle.experiments._shared.section import Estimator, SparseDataSection
from pudle.harness.settings import Count, NonNegative, Positive, Several


class Settings(SparseDataSection):
    """The section ``experiments.learning`` of the configuration."""

    init_noise: NonNegative = Field(description="δ. The initial dictionary is normalise(D* + δ N(0, 1)).")
    lam: Positive = Field(description="Sparsity level λ.")
    step: Positive = Field(description="Step size α.")
    n_layers: Several[Count] = Field(description="Numbers of layers T; each has a cell.")
    estimators: Several[Estimator] = Field(description="Gradients; each has a cell.")
    updates: Count = Field(description="Full-batch updates of Adam.")
    learning_rate: Positive = Field(description="Learning rate of Adam.")
    adam_eps: Positive = Field(
        description="eps of Adam. If it is large compared with the gradients, results depend on the scale of the loss."
    )
