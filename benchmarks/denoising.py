"""Time of filter gradients, codes and their back-propagation at the size of the experiment denoising, compared with automatic differentiation.

    python benchmarks/denoising.py [--threads 2] [--device cuda] [--repeats 5] [--only back] [--toy]

"back" is ``loss.backward()`` of ½‖x − Dz‖² with respect to filters and images, where z comes from pudle.convolution.encode or from torch's
convolutions. measuring.py describes the measurement. The table is also written to benchmarks/out/denoising.csv.
"""

import torch
import torch.nn.functional as F
from measuring import compare

from pudle.core.convolution import decode, encode
from pudle.core.networks import autograd_filter_gradient, filter_gradient
from pudle.core.unrolling import Unrolling, iterate

N_FILTERS, KERNEL, STRIDE = 64, 9, 4
UNROLLING = Unrolling(lam=0.16, step=0.1, n_layers=15)
SIZES = [(1, 129, 129), (4, 129, 129), (8, 129, 129), (4, 65, 65)]
CASES = [(name, *size) for name in ("dec", "ae-ls", "ae-lasso", "back") for size in SIZES] + [("encode", 1, 321, 481)]
TOY = [(name, 1, 33, 33) for name in ("ae-ls", "back", "encode")]


def call(path: str, name: str, n: int, height: int, width: int):
    """The function to time, which has no arguments."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 1, height, width, generator=generator, device="cpu").to(torch.get_default_device())
    filters = torch.randn(N_FILTERS, 1, KERNEL, KERNEL, generator=generator, device="cpu").to(images)
    filters /= filters.flatten(1).norm(dim=1)[:, None, None, None]
    if name == "encode":
        return lambda: codes(path, images, filters)
    if name == "back":
        back(path, images[:, :, :17, :17], filters)
        return lambda: back(path, images, filters)
    gradient = {"autograd": autograd_filter_gradient, "fast": filter_gradient}[path]
    gradient(images[:, :, :17, :17], filters, name, UNROLLING, stride=STRIDE)  # loads the libraries
    return lambda: gradient(images, filters, name, UNROLLING, stride=STRIDE)


@torch.no_grad()
def codes(path: str, images: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    if path == "fast":
        return encode(images, filters, **vars(UNROLLING), stride=STRIDE)
    return plain_codes(images, filters)


def plain_codes(images: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    start = torch.zeros_like(F.conv2d(images, filters, stride=STRIDE))
    return iterate(
        UNROLLING, start, lambda z: F.conv2d(F.conv_transpose2d(z, filters, stride=STRIDE) - images, filters, stride=STRIDE)
    )


def back(path: str, images: torch.Tensor, filters: torch.Tensor) -> None:
    images, filters = images.clone().requires_grad_(), filters.clone().requires_grad_()
    if path == "fast":
        estimate = decode(encode(images, filters, **vars(UNROLLING), stride=STRIDE), filters, stride=STRIDE)
    else:
        estimate = F.conv_transpose2d(plain_codes(images, filters), filters, stride=STRIDE)
    (0.5 * (estimate - images).square().sum()).backward()


def operations(name: str, n: int, height: int, width: int) -> float:
    """Floating-point operations of all products D z, Dᵀ x and ⟨x, z⟩, each of which is a (positions, k²) by (k², p) matrix product."""
    n_layers = UNROLLING.n_layers
    products = {"encode": 2 * n_layers - 1, "dec": 2 * n_layers + 1}.get(name, 6 * n_layers - 1)
    positions = n * ((height - KERNEL) // STRIDE + 1) * ((width - KERNEL) // STRIDE + 1)
    return 2 * products * positions * KERNEL**2 * N_FILTERS


if __name__ == "__main__":
    compare(__file__, __doc__, CASES, call, operations, toy=TOY)
