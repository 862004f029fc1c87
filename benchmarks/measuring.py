"""Measurements of the benchmarks, which run two implementations in alternation in one process.

Other work on the machine then slows both equally, and the reported ratio is the median over pairs. Clocks are read after a GPU has finished
its work. ``--clock processor`` measures CPU seconds instead of wall-clock seconds, for machines with other work. Peak memory is the increase
of a child process's memory during one call (Linux with glibc only), or on a GPU of its tensors' memory. The floor is the time of the
multiplications of dense layers at the measured rate of a large matrix product; implementations that skip zeros can be faster.
"""

import argparse
import ctypes
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pandas as pd
import torch

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def compare(
    script: str,
    description: str,
    cases: Sequence[tuple],
    call: Callable,
    operations: Callable,
    plain: str = "autograd",
    *,
    toy: Sequence[tuple],
) -> None:
    """The command line of a benchmark, which measures all ``cases``, prints a table, and writes it to ``out/`` beside the script.

    toy : cases that replace ``cases`` with ``--toy``; memory is measured for the first of them only
    call : maps (path, *case) to the function to time, which has no arguments, for the paths ``plain`` and "fast"
    operations : maps (*case) to the number of floating-point operations of the dense layers
    """
    parser = arguments(description)
    parser.add_argument("--only", default="", help="measure only cases whose name contains this text")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = toy if options.toy else cases
    with computing_on(options):
        if options.child:
            print(_peak_memory(call(options.child[0], *cases[int(options.child[1])])))
        else:
            _compare(script, options, cases, call, operations, (plain, "fast"))


def arguments(description: str) -> argparse.ArgumentParser:
    """The common options of all benchmarks."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall", help="processor: CPU seconds, summed over threads")
    parser.add_argument(
        "--toy",
        action=Toy,
        nargs=0,
        default=False,
        help="run small cases on one thread for some seconds, as a test of the script",
    )
    return parser


class Toy(argparse.Action):
    """The option ``--toy``, which also sets one thread and one repeat."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.toy, namespace.threads, namespace.repeats = True, 1, 1


def computing_on(options: argparse.Namespace) -> AbstractContextManager:
    """Set torch's number of threads, and return a context with its default device."""
    torch.set_num_threads(options.threads)
    if options.device == "cpu":
        return nullcontext()
    if not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch finds no GPU that it can use here")
    torch.backends.fp32_precision = "ieee"  # no TF32
    return torch.device(options.device)


def _compare(
    script: str,
    options: argparse.Namespace,
    cases: Sequence[tuple],
    call: Callable,
    operations: Callable,
    paths: tuple[str, str],
) -> None:
    rate = matrix_rate(1024 if options.device == "cpu" else 8192, options.clock)
    rows = []
    for number, case in enumerate(cases):
        if options.only in " ".join(map(str, case)):
            times = _in_turn({path: call(path, *case) for path in paths}, options)
            weighed = not (options.toy and rows)
            memory = {path: _child_memory(script, path, number, options) if weighed else float("nan") for path in paths}
            rows.append(
                {
                    "case": " ".join(map(str, case)),
                    **{f"{path} ms": 1e3 * times[path].median() for path in paths},
                    "ratio": (times[paths[0]] / times.fast).median(),
                    "dense floor ms": 1e3 * operations(*case) / rate,
                    **{f"{path} MiB": memory[path] for path in paths},
                    # a call on small arrays may stay below the earlier peak
                    "memory ratio": memory["fast"] / memory[paths[0]] if memory[paths[0]] else float("nan"),
                }
            )
    table = pd.DataFrame(rows)
    print(f"{device_name()}, {options.threads} threads, {options.clock} clock, {rate / 1e9:.0f} GFLOP/s\n")
    print(table.to_markdown(index=False, floatfmt=".3g"))
    table = table.assign(device=device_name(), threads=options.threads, clock=options.clock)
    table.to_csv(output(script, options.toy, ".csv"), index=False)


def output(script: str, toy: bool, suffix: str) -> Path:
    """The output file of a benchmark in ``out/`` beside the script. Runs with ``--toy`` have separate files."""
    folder = Path(script).parent / "out"
    folder.mkdir(exist_ok=True)
    return folder / f"{Path(script).stem}{'-toy' if toy else ''}{suffix}"


def device_name() -> str:
    return torch.cuda.get_device_name() if _on_gpu() else "processor"


def matrix_rate(size: int, clock: str) -> float:
    """Floating-point operations per second of a float32 product of ``size`` x ``size`` matrices."""
    a = torch.rand(size, size)
    return 2 * size**3 / min(timed(lambda: a @ a, clock) for _ in range(20))


def _in_turn(calls: dict[str, Callable], options: argparse.Namespace) -> pd.DataFrame:
    """Times of all calls in seconds, with one row per repeat, after one repeat as warm-up."""
    rows = [{path: timed(run, options.clock) for path, run in calls.items()} for _ in range(options.repeats + 1)]
    return pd.DataFrame(rows[1:])


def timed(run: Callable, clock: str = "wall") -> float:
    """The time of ``run()`` in seconds."""
    start = _now(clock)
    run()
    return _now(clock) - start


def _now(clock: str) -> float:
    if _on_gpu():
        torch.cuda.synchronize()
    return CLOCKS[clock]()


def _on_gpu() -> bool:
    return torch.get_default_device().type == "cuda"


def _child_memory(script: str, path: str, number: int, options: argparse.Namespace) -> float:
    command = [
        sys.executable,
        script,
        "--threads",
        str(options.threads),
        "--device",
        options.device,
        *(["--toy"] if options.toy else []),
        "--child",
        path,
        str(number),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _peak_memory(run: Callable) -> float:
    """The increase of memory in MiB at the peak of a call. Data are already allocated, and freed memory is returned to the system before."""
    if _on_gpu():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    before = _resident("VmRSS")
    run()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    """A field of the process's status in MiB. ru_maxrss of resource.getrusage is unsuitable, since a child inherits it from its parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{field}:")[1].split()[0]) / 1024
