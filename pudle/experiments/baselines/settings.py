"""The settings of the experiment."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pudle import methods
from pudle.errors import PudleError, one_of
from pudle.experiments._shared import plugin_grid
from pudle.experiments._shared.section import SparseDataSection
from pudle.experiments.baselines.grid import methods_at
from pudle.harness.settings import Count, Misfit, Name, NonNegative, Null, Positive, Several


class Settings(SparseDataSection):
    """The section ``experiments.baselines`` of the configuration."""

    sparsity: Several[Count] = Field(description="Numbers s of non-zeros of each true code; each has a cell.")
    init_noise: NonNegative = Field(description="δ. The initial dictionary is normalise(D* + δ N(0, 1)).")
    batch: Count = Field(description="Samples per update.")
    epochs: Count = Field(description="Passes over the samples.")
    evaluate_every: Count = Field(description="Updates between measurements of the error.")
    time_limit: Positive = Field(description="Time in seconds after which a seed of a method ends as stalled.")
    methods: dict[Name, dict[str, Any] | Null] = Field(
        min_length=1,
        description=(
            "Methods to compare, each with the settings that differ from its defaults: `name: {}`, or `label: "
            "{method: name, …}` for a variant of a method. null omits a method. `pudle methods` lists the names."
        ),
    )
    at_sparsity: dict[Annotated[str, Field(pattern="^[0-9]+$")], dict[str, dict[str, Any] | Null]] = Field(
        {},
        description=(
            'Settings of methods that differ at one sparsity, for example `"20": {noodl: {learning_rate: 1.0}}`. null omits a '
            "method at this sparsity."
        ),
    )

    @model_validator(mode="after")
    def fits(self) -> Self:
        if self.batch > self.n_samples:
            raise Misfit("there are not enough samples for one batch", ["batch"], ["n_samples"])
        plugin_grid.check(methods.REGISTRY, self.methods, ["methods"])
        for sparsity, others in self.at_sparsity.items():  # also those not in `sparsity`, since an overlay may run fewer
            place = ["at_sparsity", sparsity]
            for name in others:
                try:
                    one_of(name, self.methods, "method of this experiment")
                except PudleError as error:
                    raise Misfit(str(error), [*place, name], complete=True) from None
            chosen = methods_at(dict(self), sparsity)
            plugin_grid.check(methods.REGISTRY, {name: chosen[name] for name in others}, place)
        return self
