"""Which settings the experiment has."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pudle.experiments._shared.section import Section, Signs
from pudle.harness.settings import Count, Distinct, Misfit, Model, Positive, Several, within


class Starts(Model):
    perturbed: Distinct[Signs] = Field(
        None,
        description=(
            "Near the truth, at each δ. Lists the signs to run: one random sign per sample (shared, as published) or "
            "per non-zero (independent, as the theory assumes)."
        ),
    )
    gaussian: Distinct[Signs] = Field(None, description="Random Gaussian atoms. Lists the signs to run.")
    samples: Distinct[Signs] = Field(None, description="Random samples as atoms. Lists the signs to run.")
    arora: Distinct[Signs] = Field(
        None,
        description=(
            "The pairwise method of Arora et al. (2015), with Gaussian atoms for those it does not find. Lists the "
            "signs to run."
        ),
    )


class Settings(Section):
    """The section ``experiments.initialization`` of the configuration."""

    n_samples: Annotated[int, within(4)] = Field(description="Samples n to start and to learn from.")
    test_samples: Count = Field(
        description="Further samples on which the supports of the codes are compared with the true ones.",
    )
    n_features: Annotated[int, within(3)] = Field(description="Features m of a sample.")
    n_atoms: Count = Field(description="Atoms p.")
    sparsity: Several[Count] = Field(description="Non-zeros s of each true code; several.")
    init_noise: Several[Positive] = Field(
        description="δ. The start `perturbed` is normalise(D* + δ N(0, 1)), about δ√m away while that is small; several.",
    )
    starts: Starts = Field(description="Where learning starts, and with which signs of the codes; a cell each.")
    max_pairs: Count = Field(description="Pairs of samples that the pairwise method may try.")
    estimator: Literal["dec", "ae-ls"] = Field(description="Gradient.")
    threshold: Positive = Field(description="Hard threshold b of the encoder.")
    step: Positive = Field(description="Step size α.")
    n_layers: Count = Field(description="Layers T.")
    batch: Count = Field(description="Samples per update.")
    updates: Count = Field(description="Updates of Adam.")
    learning_rate: Positive = Field(description="Learning rate of Adam.")
    adam_eps: Positive = Field(description="Adam's eps. Where it is large against the gradients the scale of the loss matters.")
    recovered_within: Positive = Field(
        description=(
            "An atom counts as recovered if it is at most this far from its match among the true ±atoms; all have norm 1."
        ),
    )

    @model_validator(mode="after")
    def fits(self) -> Self:
        if not any(self.starts.changes().values()):
            raise Misfit("no start is left; null under experiments switches the experiment off", ["starts"])
        if max(self.sparsity) > self.n_atoms:
            raise Misfit("a code cannot have more non-zeros than atoms", ["sparsity"], ["n_atoms"])
        if self.starts.samples and self.n_atoms > self.n_samples:
            raise Misfit("the start 'samples' draws atoms from the samples, without replacement", ["n_atoms"], ["n_samples"])
        return self
