"""The settings of the experiment."""

from typing import Literal

from pydantic import Field

from pudle.experiments._shared.section import Estimator, SparseDataSection
from pudle.harness.settings import Count, Distinct, NonNegative, Positive, Several


class Settings(SparseDataSection):
    """The section ``experiments.bias`` of the configuration."""

    init_noise: NonNegative = Field(description="δ of the start of learning, normalise(D* + δ N(0, 1)).")
    lams: Distinct[Positive] = Field(
        min_length=3,
        description="Sparsity levels λ. The hard threshold is α λ, the level of the first soft layer.",
    )
    step: Positive = Field(description="Step size α.")
    n_layers: Count = Field(description="Layers T for the codes at D*.")
    decay: Positive = Field(le=1, description="ν of the decayed forward pass, which has λ_t = λ ν^t in layer t.")
    forward: Several[Literal["fixed", "decayed", "hard"]] = Field(description="Forward passes to compare.")
    estimators: Distinct[Estimator] = Field(
        description="Gradients to learn with. ae-lasso is used with fixed λ only, since its loss has one λ.",
    )
    updates: Count = Field(description="Full-batch Adam steps of learning.")
    learning_layers: Count = Field(description="Layers T in learning.")
    learning_rate: NonNegative = Field(
        description="Initial learning rate of Adam. It decreases to 0 along a cosine, so that the error reaches its floor.",
    )
