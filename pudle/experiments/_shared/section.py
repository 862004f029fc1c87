"""The common base of the settings of all experiments, and types of their values."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pudle.harness.settings import Count, Misfit, Model, Seeds, within

Signs = Literal["shared", "independent"]
Estimator = Literal["dec", "ae-lasso", "ae-ls"]


class Section(Model):
    """A section under ``experiments`` of the configuration. Every field has a description, which ``pudle keys`` prints."""

    seeds: Seeds = Field(None, description="Number of seeds, or a list of seeds. Default: the top-level `seeds`.")


class SparseDataSection(Section):
    """The section of an experiment with samples x = D* z*, whose codes have ``sparsity`` non-zeros (one number or several)."""

    n_samples: Count = Field(description="Samples n.")
    n_features: Annotated[int, within(2)] = Field(description="Features m of a sample.")
    n_atoms: Count = Field(description="Atoms p.")
    sparsity: Count = Field(description="Non-zeros s of each true code.")
    signs: Signs = Field(description="One random sign per sample (as published) or per non-zero (as the theory assumes).")

    @model_validator(mode="after")
    def codes_fit(self) -> Self:
        if max(self.sparsity if isinstance(self.sparsity, list) else [self.sparsity]) > self.n_atoms:
            raise Misfit("a code cannot have more non-zeros than atoms", ["sparsity"], ["n_atoms"])
        return self
