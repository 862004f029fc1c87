"""Methods of dictionary learning as plug-ins.

A method is a class in a file of this folder, in a file of yours (``load_plugins``) or in an installed package (entry points of
the group ``pudle.methods``)::

    @register("my-method")
    class MyMethod(Method):
        '''The one line that `pudle methods` shows.'''

        source = "who published it, where"

        class Settings(Settings):
            rate: float = Field(0.1, gt=0, description="What it is.")

        def update(self, batch): ...

Planning a workflow imports every method, so that names and settings can be checked, and must not wait for torch: a method imports
what is heavy inside the functions that need it.
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
    """A dictionary that is learned from batches of samples. It never sees the truth.

    dictionary : the current dictionary (m, p), of the type and on the device of the one it started from. Copy it to keep it
    encode : optional; ``encode(x)`` gives the codes (n, p) of samples (n, m) in the current dictionary
    """

    unit_norm: ClassVar[bool] = True  # a promise: after every update all atoms have norm 1

    def __init__(self, dictionary: Tensor, settings: Settings, generator: np.random.Generator):
        """``dictionary`` (m, p) is where to start, and is copied; all randomness comes from ``generator``."""
        self.dictionary = dictionary.clone()
        self.settings = settings
        self.generator = generator

    @abstractmethod
    def update(self, batch: Tensor) -> None:
        """Learn from ``batch`` (b, m), b ≥ 1. Called once for each batch, in order."""

    def move_to(self, dictionary: Tensor) -> None:
        """Make ``dictionary`` (m, p) the current one, with its atoms rescaled to norm 1."""
        self.dictionary = dictionary / dictionary.norm(dim=0, keepdim=True)


REGISTRY = plugins.Registry("method", Method, __name__)
register, names, get = REGISTRY.register, REGISTRY.names, REGISTRY.get
validate, source_file, fingerprint = REGISTRY.validate, REGISTRY.source_file, REGISTRY.fingerprint
load_plugins = plugins.load


def create(name: str, dictionary: Tensor, settings: Mapping, generator: np.random.Generator) -> Method:
    """Method ``name``, about to start from ``dictionary`` (m, p)."""
    return get(name)(dictionary, REGISTRY.settings(name, settings), generator)
