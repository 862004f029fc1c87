"""Learning under a constraint: after each update of the optimiser, parameters are changed to satisfy the constraint."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def normalize_atoms(dictionary: Tensor) -> None:
    """Rescale the atoms of ``dictionary`` (m, p) to norm 1, in place. Atoms that are 0 stay 0."""
    dictionary /= torch.linalg.vector_norm(dictionary, dim=0, keepdim=True).clamp_min(torch.finfo(dictionary.dtype).tiny)


@dataclass(frozen=True)
class ConstrainedDescent:
    """Steps of ``optimizer``, each followed by ``constrain``. Parameters change in place.

    optimizer : an optimiser of torch, such as Adam, with its parameters
    constrain : function that is called with the parameters and changes them in place to satisfy the constraint; None means no constraint
    """

    optimizer: torch.optim.Optimizer
    constrain: Callable[..., None] | None = normalize_atoms

    def update(self, *gradients: Tensor) -> None:
        """Take one step against ``gradients``: one for each parameter, in their order and of their shapes."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        if self.constrain is not None:
            self.constrain(*parameters)
