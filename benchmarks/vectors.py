"""The vector instructions of pudle/kernels/simd.py and matmul.py against the same loops in plain numba, in float32 on one thread.

    python benchmarks/vectors.py [--clock processor] [--repeats 15] [--toy]

Plain loops have the same options of numba, including fast-math. measuring.py describes the measurement. The table goes to
benchmarks/out/vectors.csv as well.
"""

from functools import partial

import numpy as np
import pandas as pd
from measuring import arguments, output, timed
from numba import njit

from pudle.kernels import matmul, simd

PATTERNS = 500  # of flags, one for each call, so that the processor cannot learn which branch comes next
OVER_FLAGS = "pick", "add_spread", "compress", "expand"
COMPILED = njit(**simd.OPTIONS | {"cache": False})


@COMPILED
def add_rows(out, base, matrix, index, values, count):
    for j in range(out.shape[0]):
        out[j] = base[j]
    for k in range(count):
        row, weight = matrix[index[k]], values[index[k]]
        for j in range(out.shape[0]):
            out[j] += weight * row[j]


@COMPILED
def pick(out, values, flags):
    count = 0
    for j in range(flags.shape[0]):
        if flags[j] != 0:
            out[count] = values[j]
            count += 1
    return count


@COMPILED
def add_spread(out, values, flags):
    count = 0
    for j in range(out.shape[0]):
        if flags[j] != 0:
            out[j] += values[count]
            count += 1


@njit(**simd.OPTIONS | {"cache": False})
def compress_vectors(out, marks, values):
    simd.compress(out, 0, marks, 0, values)


@COMPILED
def compress(out, marks, values):
    count = 0
    for j in range(values.shape[0]):
        bit = values[j] != 0
        marks[j // 8] = (marks[j // 8] & ~(1 << (j % 8))) | (bit << (j % 8))
        out[count] = values[j]
        count += bit


@njit(**simd.OPTIONS | {"cache": False})
def expand_vectors(out, values, marks):
    simd.expand(out, values, 0, marks, 0)


@COMPILED
def expand(out, values, marks):
    count = 0
    for j in range(out.shape[0]):
        bit = (marks[j // 8] >> (j % 8)) & 1
        out[j] = values[count] if bit else values[count] * 0
        count += bit


@COMPILED
def add_dots(out, base, factor, matrix, index, count, row):
    for k in range(count):
        left, total = matrix[index[k]], row[0] * 0
        for j in range(row.shape[0]):
            total += left[j] * row[j]
        out[index[k]] = base[index[k]] + factor * total


@COMPILED
def multiply(out, source, rows, columns, matrix):
    for r in range(rows.shape[0]):
        row = out[r]
        for j in range(row.shape[0]):
            row[j] = 0
        for k in range(columns.shape[0]):
            weight, right = source[rows[r] + columns[k]], matrix[k]
            for j in range(row.shape[0]):
                row[j] += weight * right[j]


def cases():
    """(name, size, vectors, plain, arguments): sizes of the experiments."""
    draw = np.random.default_rng(0)

    def normal(*shape):
        return draw.standard_normal(shape).astype(np.float32)

    for width, count in ((48, 12), (64, 30), (112, 30), (1504, 40)):
        index = draw.permutation(width)[:count].astype(np.uint32)
        fast = simd.add_few_rows if width <= 64 else simd.add_rows
        yield fast.__name__, f"{count} rows of {width}", fast, add_rows, (
            normal(width), normal(width), normal(width, width), index, normal(width), count
        )  # fmt: skip
    for width, count in ((64, 12), (112, 30), (1504, 40)):
        flags, entries = np.zeros((PATTERNS, width), np.float32), np.arange(width, dtype=np.uint32)
        for pattern in flags:
            pattern[draw.permutation(width)[:count]] = 1
        yield "pick", f"{count} of {width}", simd.pick, pick, (np.zeros(width + 16, np.uint32), entries, flags)
        yield "add_spread", f"{count} of {width}", simd.add_spread, add_spread, (normal(width), normal(width), flags)
        marks = np.packbits(flags != 0, axis=1, bitorder="little")
        yield "compress", f"{count} of {width}", compress_vectors, compress, (normal(width + 16), marks[0].copy(), flags)
        yield "expand", f"{count} of {width}", expand_vectors, expand, (normal(width), normal(width + 16), marks)
    index, row = draw.permutation(64)[:16].astype(np.uint32), normal(96)
    step = np.float32(1e-6)
    yield "add_dots", "16 rows of 96", simd.add_dots, add_dots, (normal(64), normal(64), step, normal(64, 96), index, 16, row)
    places, under = np.arange(31) * 4, (np.arange(9)[:, None] * 129 + np.arange(9)).ravel()
    yield "multiply", "31 x 81 by 81 x 64", matmul.multiply, multiply, (
        np.zeros((31, 64), np.float32), normal(129 * 9), places, under, normal(81, 64)
    )  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(threads=1, repeats=15)
    options = parser.parse_args()
    n_calls, rows = 2 if options.toy else 2_000, []
    for name, size, fast, plain, given in cases():
        repeat = _repeated_over_flags if name in OVER_FLAGS else _repeated
        runs = {key: repeat(function, n_calls) for key, function in (("plain", plain), ("vectors", fast))}
        times = pd.DataFrame(
            {key: timed(partial(run, *given), options.clock) for key, run in runs.items()} for _ in range(options.repeats + 1)
        )[1:]
        medians = 1e6 * times.median() / n_calls
        ratio = (times.plain / times.vectors).median()
        rows.append({"loop": name, "size": size, "plain µs": medians.plain, "vectors µs": medians.vectors, "ratio": ratio})
    table = pd.DataFrame(rows)
    print(table.to_markdown(index=False, floatfmt=".2g"))
    table.to_csv(output(__file__, options.toy, ".csv"), index=False)


def _repeated(function, n_calls: int):
    """``function`` many times in compiled code, since a call from Python takes longer than most of them."""

    @njit(**simd.OPTIONS | {"cache": False})
    def run(*given):
        for _ in range(n_calls):
            function(*given)

    return run


def _repeated_over_flags(function, n_calls: int):
    """The same with the next row of the last argument in each call."""

    @njit(**simd.OPTIONS | {"cache": False})
    def run(first, second, flags):
        for k in range(n_calls):
            function(first, second, flags[k % flags.shape[0]])

    return run


if __name__ == "__main__":
    main()
