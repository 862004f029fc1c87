"""Methods of dictionary learning as plug-ins.

A method is a class in a file of this folder, in your own file (``load_plugins``) or in an installed package (entry points of the group
``pudle.methods``)::

    @register("my-method")
    class MyMethod(Method):
        '''The description, in one line, that `pudle methods` shows.'''

        source = "authors and publication"

        class Settings(Settings):
            rate: float = Field(0.1, gt=0, description="Step size of the update.")

        def update(self, batch): ...

Planning a workflow imports every method, to check names and settings, and must not wait for torch. Methods therefore import large packages
inside the functions that need them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pudle.harness import plugins
from pudle.harness.plugins import NAME, Plugin, Settings, SettingsError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = [
    "NAME",
    "REGISTRY",
    "Field",
    "Method",
    "Settings",
    "SettingsError",
    "create",
    "fingerprint",
    "get",
    "load_plugins",
    "names",
    "register",
    "source_file",
    "validate",
]


class Method(Plugin):
    """A dictionary that is learned from batches of samples, without access to the true dictionary.

    dictionary : the current dictionary (m, p), with the type and device of the initial one. Later updates may change it in place
    encode : optional; ``encode(x)`` returns the codes (n, p) of samples (n, m) in the current dictionary
    """

    unit_norm: ClassVar[bool] = True  # promises that all atoms have norm 1 after every update

    def __init__(self, dictionary: Tensor, settings: Settings, generator: np.random.Generator):
        """Start from a copy of ``dictionary`` (m, p); all random numbers come from ``generator``."""
        self.dictionary = dictionary.clone()
        self.settings = settings
        self.generator = generator

    @abstractmethod
    def update(self, batch: Tensor) -> None:
        """Learn from ``batch`` (b, m), b ≥ 1. It is called once for each batch, in order."""

    def move_to(self, dictionary: Tensor) -> None:
        """Set the current dictionary to ``dictionary`` (m, p), with its atoms rescaled to norm 1."""
        self.dictionary = dictionary / dictionary.norm(dim=0, keepdim=True)


REGISTRY = plugins.Registry("method", Method, __name__)
register, names, get = REGISTRY.register, REGISTRY.names, REGISTRY.get
validate, source_file, fingerprint = REGISTRY.validate, REGISTRY.source_file, REGISTRY.fingerprint
load_plugins = plugins.load


def create(name: str, dictionary: Tensor, settings: Mapping, generator: np.random.Generator) -> Method:
    """An instance of the method ``name`` that starts from ``dictionary`` (m, p).

    settings : the method's own; those that are left out have their defaults. Raises :class:`SettingsError` if one is invalid
    generator : the source of all random numbers of the method

    Raises :class:`PudleError` if there is no such method.
    """
    return get(name)(dictionary, REGISTRY.settings(name, settings), generator)
