"""Filter gradients and codes at the size of the denoising experiment: the fast path against automatic differentiation.

    python benchmarks/denoising.py [--threads 2] [--repeats 5]

Both are timed in turn in one process, so that other work on the machine slows both; a ratio is the median over these pairs.
Peak memory is what one call adds to the largest resident set of a child process (Linux only). The floor is the time of the
multiplications alone at the measured rate of a large matrix product. The table goes to benchmarks/out/denoising.csv as well.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F

from pudle.coding import Unrolling, iterate
from pudle.convolution import autograd_filter_gradient, encode, filter_gradient

N_FILTERS, KERNEL, STRIDE = 64, 9, 4
UNROLLING = Unrolling(lam=0.16, step=0.1, n_layers=15)
SIZES = [(1, 129, 129), (4, 129, 129), (8, 129, 129), (4, 65, 65)]
CASES = [(name, *size) for name in ("dec", "ae-ls", "ae-lasso") for size in SIZES] + [("encode", 1, 321, 481)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        path, name, *size = options.child
        print(peak_memory(path, name, *map(int, size)))
        return
    rate = matrix_rate()
    rows = [measure(case, options, rate) for case in CASES]
    table = pd.DataFrame(rows)
    print(f"{options.threads} threads, {rate / 1e9:.0f} GFLOP/s\n")
    print(table.to_markdown(index=False, floatfmt=".3g"))
    out = Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    table.assign(threads=options.threads).to_csv(out / "denoising.csv", index=False)


def measure(case: tuple, options: argparse.Namespace, rate: float) -> dict:
    name, n, height, width = case
    calls = {path: call(path, *case) for path in ("autograd", "fast")}
    seconds = {path: [] for path in calls}
    for repeat in range(options.repeats + 1):
        for path, run in calls.items():
            elapsed = timed(run)
            if repeat:  # the first one warms up
                seconds[path].append(elapsed)
    times = pd.DataFrame(seconds)
    memory = {path: child_memory(path, case, options.threads) for path in calls}
    return {
        "what": name,
        "images": f"{n} x {height} x {width}",
        "autograd ms": 1e3 * times.autograd.median(),
        "fast ms": 1e3 * times.fast.median(),
        "ratio": (times.autograd / times.fast).median(),
        "floor ms": 1e3 * operations(*case) / rate,
        "autograd MiB": memory["autograd"],
        "fast MiB": memory["fast"],
        "memory ratio": memory["fast"] / memory["autograd"],
    }


def call(path: str, name: str, n: int, height: int, width: int):
    """A function of nothing to time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 1, height, width, generator=generator)
    filters = torch.randn(N_FILTERS, 1, KERNEL, KERNEL, generator=generator)
    filters /= filters.flatten(1).norm(dim=1)[:, None, None, None]
    if name == "encode":
        return lambda: codes(path, images, filters)
    gradient = {"autograd": autograd_filter_gradient, "fast": filter_gradient}[path]
    return lambda: gradient(images, filters, name, UNROLLING, stride=STRIDE)


@torch.no_grad()
def codes(path: str, images: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    if path == "fast":
        return encode(images, filters, **vars(UNROLLING), stride=STRIDE)
    start = torch.zeros_like(F.conv2d(images, filters, stride=STRIDE))
    return iterate(
        UNROLLING, start, lambda z: F.conv2d(F.conv_transpose2d(z, filters, stride=STRIDE) - images, filters, stride=STRIDE)
    )


def timed(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def operations(name: str, n: int, height: int, width: int) -> float:
    """Floating-point operations of all products D z, Dᵀ x and ⟨x, z⟩, each a (positions, k²) by (k², p) matrix product."""
    n_layers = UNROLLING.n_layers
    products = {"encode": 2 * n_layers - 1, "dec": 2 * n_layers + 1}.get(name, 6 * n_layers - 1)
    positions = n * ((height - KERNEL) // STRIDE + 1) * ((width - KERNEL) // STRIDE + 1)
    return 2 * products * positions * KERNEL**2 * N_FILTERS


def matrix_rate(size: int = 1024) -> float:
    """Floating-point operations a second of a float32 matrix product."""
    a = torch.rand(size, size)
    return 2 * size**3 / min(timed(lambda: a @ a) for _ in range(20))


def child_memory(path: str, case: tuple, threads: int) -> float:
    command = [sys.executable, __file__, "--threads", str(threads), "--child", path, *map(str, case)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_memory(path: str, *case) -> float:
    """MiB that one call adds to the peak of this process, after a small one that loads the libraries."""
    call(path, case[0], 1, 17, 17)()
    run = call(path, *case)
    before = resident_peak()
    run()
    return resident_peak() - before


def resident_peak() -> float:
    """MiB. Not ru_maxrss of resource.getrusage: a child inherits that from its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
