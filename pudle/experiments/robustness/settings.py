"""The settings of the experiment."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pudle import methods
from pudle.experiments._shared import plugin_grid
from pudle.experiments._shared.section import Section, Signs
from pudle.harness.settings import Count, Misfit, Model, Name, NonNegative, Null, Positive, within


class Variant(Model):
    n_samples: Count = Field(None, description="Samples n.")
    n_features: Annotated[int, within(2)] = Field(None, description="Features m of a sample.")
    n_atoms: Count = Field(None, description="Atoms p.")
    sparsity: Count = Field(None, description="Non-zeros s of each true code.")
    signs: Signs = Field(None, description="One random sign per sample (as published) or per non-zero (as the theory assumes).")
    amplitudes: Literal["uniform", "subgaussian"] = Field(
        None,
        description="Sizes of the non-zeros: uniform on [1, 2], or Gaussian with mean 5 and deviation 1.",
    )
    noise: NonNegative = Field(None, description="Standard deviation of the noise on the samples.")
    init_noise: NonNegative = Field(None, description="δ. The initial dictionary is normalise(D* + δ N(0, 1)).")
    batch: Count | Literal["full"] = Field(None, description="Samples per update, or `full` for all samples.")
    epochs: Count = Field(None, description="Passes over the samples; with `batch: full`, updates.")
    evaluate_every: Count = Field(None, description="Updates between measurements of the error.")
    method_settings: dict[str, Any] = None


class Settings(Section):
    """The section ``experiments.robustness`` of the configuration."""

    n_samples: Count = Field(description="Samples n.")
    n_features: Annotated[int, within(2)] = Field(description="Features m of a sample.")
    n_atoms: Count = Field(description="Atoms p.")
    sparsity: Count = Field(description="Non-zeros s of each true code.")
    signs: Signs = Field(description="One random sign per sample (as published) or per non-zero (as the theory assumes).")
    amplitudes: Literal["uniform", "subgaussian"] = Field(
        description="Sizes of the non-zeros: uniform on [1, 2], or Gaussian with mean 5 and deviation 1.",
    )
    noise: NonNegative = Field(description="Standard deviation of the noise on the samples.")
    init_noise: NonNegative = Field(description="δ. The initial dictionary is normalise(D* + δ N(0, 1)).")
    batch: Count | Literal["full"] = Field(description="Samples per update, or `full` for all samples.")
    epochs: Count = Field(description="Passes over the samples; with `batch: full`, updates.")
    evaluate_every: Count = Field(description="Updates between measurements of the error.")
    time_limit: Positive = Field(description="Time in seconds after which a seed of a method ends as stalled.")
    variants: dict[Name, Variant] = Field(
        min_length=1,
        description=(
            "Variants by name, each with the settings that it changes: any of the above and, under `method_settings`, settings of "
            "all methods."
        ),
    )
    methods: dict[Name, dict[str, Any] | Null] = Field(
        min_length=1,
        description="Methods to compare, each with the settings that differ from its defaults, as in `baselines`.",
    )

    @model_validator(mode="after")
    def fits(self) -> Self:
        plugin_grid.check(methods.REGISTRY, self.methods, ["methods"])
        for name, variant in self.variants.items():
            changes, place = variant.changes(), ["variants", name]
            problem = dict(self) | changes

            def key(name: str, place=place, changes=changes) -> list[str]:
                return [*place, name] if name in changes else [name]

            if problem["sparsity"] > problem["n_atoms"]:
                raise Misfit("a code cannot have more non-zeros than atoms", key("sparsity"), key("n_atoms"))
            if problem["batch"] != "full" and problem["batch"] > problem["n_samples"]:
                raise Misfit("there are not enough samples for one batch", key("batch"), key("n_samples"))
            shared = changes.get("method_settings", {})
            changed = {label: chosen | shared for label, chosen in plugin_grid.chosen(self.methods).items()}
            plugin_grid.check(methods.REGISTRY, changed, [*place, "method_settings"], shared)
        return self
