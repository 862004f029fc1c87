"""The settings of the experiment."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.section import Section, Signs
from pudle.harness.settings import Count, Distinct, Misfit, Model, Positive, Several, within


class Starts(Model):
    perturbed: Distinct[Signs] = Field(
        None,
        description=(
            "Start near the truth, at each δ. The list names the signs to run: one random sign per sample (`shared`, as published) "
            "or per non-zero (`independent`, as the theory assumes)."
        ),
    )
    gaussian: Distinct[Signs] = Field(None, description="Start from random Gaussian atoms. The list names the signs to run.")
    samples: Distinct[Signs] = Field(None, description="Start from random samples as atoms. The list names the signs to run.")
    arora: Distinct[Signs] = Field(
        None,
        description=(
            "Start from the atoms that the pairwise method of Arora et al. (2015) finds, completed by Gaussian atoms. The list names "
            "the signs to run."
        ),
    )


class Settings(Section):
    """The section ``experiments.initialization`` of the configuration."""

    n_samples: Annotated[int, within(4)] = Field(description="Samples n that starts and learning use.")
    test_samples: Count = Field(
        description="Further samples on which the supports of the codes are compared with the true supports.",
    )
    n_features: Annotated[int, within(3)] = Field(description="Features m of a sample.")
    n_atoms: Count = Field(description="Atoms p.")
    sparsity: Several[Count] = Field(description="Numbers s of non-zeros of each true code.")
    init_noise: Several[Positive] = Field(
        description=(
            "Values of δ. The start `perturbed` is normalise(D* + δ N(0, 1)); each atom is about δ√m from the true one if this is "
            "small."
        ),
    )
    starts: Starts = Field(description="Initial dictionaries and signs of the codes; each combination has a cell.")
    max_pairs: Count = Field(description="Pairs of samples that the pairwise method may try.")
    estimator: Literal["dec", "ae-ls"] = Field(description="Gradient.")
    threshold: Positive = Field(description="Hard threshold b of the encoder.")
    step: Positive = Field(description="Step size α.")
    n_layers: Count = Field(description="Layers T.")
    batch: Count = Field(description="Samples per update.")
    updates: Count = Field(description="Updates of Adam.")
    learning_rate: Positive = Field(description="Learning rate of Adam.")
    adam_eps: Positive = Field(
        description="eps of Adam. If it is large compared with the gradients, results depend on the scale of the loss."
    )
    recovered_within: Positive = Field(
        description=("Largest distance of a recovered atom from its match among the true ±atoms; all atoms have norm 1."),
    )

    @model_validator(mode="after")
    def fits(self) -> Self:
        if not any(self.starts.changes().values()):
            raise Misfit("there must be at least one start; to switch the experiment off, set it to null", ["starts"])
        if max(self.sparsity) > self.n_atoms:
            raise Misfit("a code cannot have more non-zeros than atoms", ["sparsity"], ["n_atoms"])
        if self.starts.samples and self.n_atoms > self.n_samples:
            raise Misfit("the start 'samples' draws atoms from the samples without replacement", ["n_atoms"], ["n_samples"])
        return self
