"""What the settings of all experiments have in common: the base of a section of the configuration, and types of its values."""

from typing import Literal

from pydantic import Field

from pudle.harness.settings import Model, Seeds

Signs = Literal["shared", "independent"]
Estimator = Literal["dec", "ae-lasso", "ae-ls"]


class Section(Model):
    """A section under ``experiments`` of the configuration. Every field has a description, which ``pudle keys`` prints."""

    seeds: Seeds = Field(None, description="How many seeds, or a list of them; the top-level `seeds` unless given.")
