"""The settings of the experiment."""

from typing import Annotated, Literal

from pydantic import Field

from pudle.experiments._shared.section import Estimator, SparseDataSection
from pudle.harness.settings import NonNegative, Positive, Several, within


class Settings(SparseDataSection):
    """The section ``experiments.unrolling`` of the configuration."""

    init_noise: NonNegative = Field(description="δ. The dictionary is normalise(D* + δ N(0, 1)).")
    lam: Positive = Field(description="Sparsity level λ.")
    step: Positive = Field(description="Step size α.")
    n_layers: Annotated[int, within(2)] = Field(description="Layers T; codes and gradients are measured after each layer.")
    estimators: Several[Estimator] = Field(description="Gradients to measure.")
    dtype: Literal["float32", "float64"] = Field(description="Precision of the run.")
