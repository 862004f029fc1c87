r"""Settings and formula of T unrolled layers.

:mod:`pudle.core.encoding` computes their codes, and :mod:`pudle.core.lasso` those of the lasso, to which they converge. Data ``x`` are
(n, m), a dictionary ``D`` is (m, p) with atoms as columns, and codes ``z`` are (n, p).

.. math::
    z_{t+1} = P_t\bigl(z_t - \alpha D^\top (D z_t - x)\bigr), \qquad z_0 = 0, \quad t = 0, \dots, T - 1

where ``P_t`` is soft thresholding at :math:`\alpha\lambda\nu^t` (``lam``, ``decay``) or hard thresholding at ``threshold``. With
``acceleration="fista"`` (Beck & Teboulle, 2009) layers start from :math:`y_t = z_t + \beta_t (z_t - z_{t-1})` instead of :math:`z_t`, with
:math:`\beta_t = (\theta_{t-1} - 1) / \theta_t, \theta_0 = 1, \theta_t = (1 + \sqrt{1 + 4 \theta_{t-1}^2}) / 2`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from pudle.errors import PudleError, one_of

ACCELERATIONS = ("none", "fista")


@dataclass(frozen=True, kw_only=True)
class Unrolling:
    """The settings of T unrolled layers. Raises :class:`PudleError` if they are invalid.

    lam : sparsity level λ ≥ 0 of soft thresholding, in the units of x times those of the atoms; exactly one of ``lam`` and
        ``threshold`` must be given
    threshold : level b ≥ 0 of hard thresholding, in the units of the codes, which is not multiplied by the step
    step : step size α > 0, in units of 1 / ‖D‖₂²; layers with soft thresholds converge below 2 / ‖D‖₂²
    n_layers : number of layers T
    decay : ν in (0, 1], with λ_t = λ ν^t; for soft thresholding only
    nonnegative : whether codes are non-negative (ReLU) instead of signed
    acceleration : "none", or "fista" for layers with momentum
    """

    lam: float | None = None
    threshold: float | None = None
    step: float
    n_layers: int
    decay: float = 1.0
    nonnegative: bool = False
    acceleration: str = "none"

    def __post_init__(self):
        for name in ("lam", "threshold", "step", "decay", "n_layers"):  # torch does not accept all number types of numpy
            value, integer = getattr(self, name), name == "n_layers"
            if getattr(value, "requires_grad", False):
                raise PudleError(
                    f"{name} requires a gradient, but layers compute no derivative with respect to it: pass {name}.item() and "
                    "differentiate by hand"
                )
            convert = getattr(value, "__index__" if integer else "__float__", None)
            if convert:
                object.__setattr__(self, name, convert())
            elif value is not None or name not in ("lam", "threshold"):
                raise PudleError(f"{name} must be {'an integer' if integer else 'a number'}, not {value!r}")
        if (self.lam is None) == (self.threshold is None):
            raise PudleError(
                f"give exactly one of lam (soft) and threshold (hard), not lam={self.lam} and threshold={self.threshold}"
            )
        level = "threshold" if self.hard else "lam"
        if not 0 <= getattr(self, level) < math.inf:
            raise PudleError(f"{level} must be at least 0 and finite, not {getattr(self, level)}")
        if not 0 < self.step < math.inf:
            raise PudleError(f"step must be above 0 and finite, not {self.step}")
        if self.n_layers < 1:
            raise PudleError(f"n_layers must be at least 1, not {self.n_layers}")
        one_of(self.acceleration, ACCELERATIONS, "acceleration")
        if not 0 < self.decay <= 1:
            raise PudleError(f"decay must be in (0, 1], not {self.decay}")
        if self.hard and self.decay != 1:
            raise PudleError(f"decay={self.decay} lowers lam, which is for soft thresholding, but threshold={self.threshold}")

    @property
    def hard(self) -> bool:
        return self.threshold is not None

    @property
    def accelerated(self) -> bool:
        return self.acceleration == "fista"

    def momenta(self) -> list[float]:
        """β_t of all layers; 0 without acceleration."""
        if not self.accelerated:
            return [0.0] * self.n_layers
        momenta, theta = [0.0], 1.0
        for _ in range(self.n_layers - 1):
            following = (1 + math.sqrt(1 + 4 * theta**2)) / 2
            momenta.append((theta - 1) / following)
            theta = following
        return momenta

    def level(self, layer: int) -> float:
        """The threshold of layer t: α λ ν^t for soft thresholding, b for hard thresholding."""
        return self.threshold if self.hard else self.step * self.lam * self.decay**layer

    def levels(self) -> list[float]:
        """The thresholds of all layers."""
        return [self.level(0)] * self.n_layers if self.decay == 1 else [self.level(t) for t in range(self.n_layers)]

    def shrink(self, u: Tensor, layer: int) -> Tensor:
        """P_t(u), elementwise, for layer t = ``layer``."""
        threshold = hard_threshold if self.hard else soft_threshold
        return threshold(u, self.level(layer), nonnegative=self.nonnegative)

    def shrink_in_place(self, u: Tensor, layer: int) -> Tensor:
        """:meth:`shrink` with the result in ``u``, without a new tensor and without derivatives."""
        level = self.level(layer)
        if self.hard:
            return u.mul_((u if self.nonnegative else u.abs()) >= level)
        return u.sub_(level).relu_() if self.nonnegative else torch.ops.aten.softshrink.out(u, level, out=u)


def soft_threshold(u: Tensor, level: float | Tensor, *, nonnegative: bool = False) -> Tensor:
    """sign(u) max(|u| − ``level``, 0), elementwise, or with ``nonnegative`` max(u − ``level``, 0). ``level`` may require a gradient."""
    if nonnegative:
        return F.relu(u - level)
    return u - u.clamp(-level, level) if isinstance(level, Tensor) else F.softshrink(u, level)


def soft_threshold_in_place(u: Tensor, level: Tensor, *, nonnegative: bool = False) -> Tensor:
    """:func:`soft_threshold` with the result in ``u``, without a new tensor for it, for a tensor ``level`` that broadcasts to ``u``."""
    return u.sub_(level).relu_() if nonnegative else u.sub_(u.clamp(-level, level))


def hard_threshold(u: Tensor, level: float, *, nonnegative: bool = False) -> Tensor:
    """Entries of ``u`` with |u| ≥ ``level``, or with ``nonnegative`` u ≥ ``level``, and 0 for all others. NaN stays NaN."""
    return torch.where((u if nonnegative else u.abs()) < level, torch.zeros_like(u), u)


def iterate(
    unrolling: Unrolling,
    codes: Tensor,
    correlate: Callable[[Tensor], Tensor],
    *,
    step: float | Tensor | None = None,
    shrink: Callable[[Tensor, int], Tensor] | None = None,
) -> Tensor:
    """Run all layers from ``codes``, where ``correlate(z)`` is Dᵀ(Dz − x) for the caller's linear D.

    step, shrink : replace those of ``unrolling`` if given, for tensors that require a gradient
    """
    previous, step, shrink = codes, unrolling.step if step is None else step, shrink or unrolling.shrink
    for layer, momentum in enumerate(unrolling.momenta()):
        point = codes + momentum * (codes - previous) if momentum else codes
        previous, codes = codes, shrink(point - step * correlate(point), layer)
    return codes


def runs_compiled(*arrays: Tensor) -> bool:
    """Whether compiled loops support ``arrays``, and no transformation of torch must record single operations on them."""
    return (
        all(type(array) in (Tensor, torch.nn.Parameter) and array.device.type == "cpu" and len(array) for array in arrays)
        and arrays[0].dtype in (torch.float32, torch.float64)
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and all(forward_ad.unpack_dual(array).tangent is None for array in arrays)
    )


def check_shapes(x: Tensor, dictionary: Tensor) -> None:
    """Raise :class:`PudleError` unless ``x`` is (n, m) and ``dictionary`` is (m, p), and both are tensors of one floating type."""
    check_types(x=x, dictionary=dictionary)
    if x.ndim != 2 or dictionary.ndim != 2 or x.shape[1] != dictionary.shape[0]:
        raise PudleError(
            f"x must be (n_samples, n_features) and dictionary (n_features, n_atoms), not {tuple(x.shape)} and {tuple(dictionary.shape)}"
        )
    if not dictionary.numel():
        raise PudleError(
            f"there must be at least one feature and one atom, not shapes {tuple(x.shape)} and {tuple(dictionary.shape)}"
        )


def check_codes(x: Tensor, dictionary: Tensor, codes: Tensor) -> None:
    """Raise :class:`PudleError` unless ``x`` (n, m), ``dictionary`` (m, p) and ``codes`` (n, p) fit together and have one floating type."""
    check_shapes(x, dictionary)
    check_types(x=x, codes=codes)
    if codes.shape != (len(x), dictionary.shape[1]):
        raise PudleError(
            f"codes must be {(len(x), dictionary.shape[1])}, one row for each sample of x, not {tuple(codes.shape)}"
        )


def check_types(**arrays: Tensor) -> None:
    """Raise :class:`PudleError`, which names the arrays, unless all ``arrays`` are dense tensors of one floating type, on one device."""
    for name, array in arrays.items():
        if not isinstance(array, Tensor):
            raise PudleError(f"{name} must be a torch tensor, not a {type(array).__name__}: torch.as_tensor makes one")
        if not array.is_floating_point():
            raise PudleError(f"{name} must be of a floating type such as torch.float32, not {array.dtype}")
        if array.itemsize < 2:
            raise PudleError(
                f"{name} must have at least 16 bits a number, not {array.dtype}, with which torch does not compute"
            )
        if array.layout != torch.strided:
            raise PudleError(f"{name} must be a dense tensor, not {array.layout}: {name}.to_dense() makes one")
    types = [array.dtype for array in arrays.values()]
    if types.count(types[0]) < len(types):
        raise PudleError(f"{' and '.join(arrays)} must have the same type, not {' and '.join(map(str, types))}")
    devices = [array.device for array in arrays.values()]
    if devices.count(devices[0]) < len(devices):
        raise PudleError(f"{' and '.join(arrays)} must be on the same device, not {' and '.join(map(str, devices))}")
