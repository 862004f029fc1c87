r"""Matrix products whose left factor is looked up: out[r] = Σ_k source[rows[r] + columns[k]] matrix[k].

With an image as ``source`` the product is Dᵀx (a row for each position of the filters, a column for each pixel under a filter) or, with rows
and columns exchanged, ⟨x, z⟩; patches that overlap are not copied. With equidistant offsets it is an ordinary matrix product. A tile of a few
rows by up to 64 columns stays in registers while k runs, so that each step is one multiply-add per entry, nearly at the machine's peak rate.
:mod:`pudle.kernels.image_products` uses these products. Arrays are all float32 or all float64, and widths are multiples of 16.
"""

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pudle.kernels.cache import inner
from pudle.kernels.simd import LANES, OPTIONS, broadcast, vectors

WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))  # registers of 64 bytes
# Columns and rows of a tile. Its sums fit into the registers: 6 x 4 of the 32 of AVX-512, 2 x 8 of the 16 of AVX2 (float32).
COLUMNS = 64
ROWS = 6 if WIDE else 2


@intrinsic(prefer_literal=True)
def multiply_tile(typing_context, out, source, rows, columns, matrix, first, at, n_rows, width):
    """out[r, c] = Σ_k source[rows[r] + columns[k]] matrix[k, c] for r in first : first + n_rows and c in at : at + width.

    n_rows and width, a multiple of 16, are literals. In LLVM: the sums are n_rows x width / 16 vectors of 16, which start with 0; each k
    loads a row of the matrix once, and multiplies it by one number of the source for each r.
    """
    if not (isinstance(n_rows, types.IntegerLiteral) and isinstance(width, types.IntegerLiteral)):
        return None
    n, n_vectors = n_rows.literal_value, width.literal_value // LANES

    def codegen(context, builder, signature, arguments):
        number, word = context.get_value_type(out.dtype), ir.IntType(64)
        size = context.get_abi_sizeof(number)
        vector = ir.VectorType(number, LANES)
        first, at = arguments[5:7]
        target, looked_up, row_offsets, column_offsets, right = (
            context.make_array(kind)(context, builder, array)
            for kind, array in zip((out, source, rows, columns, matrix), arguments[:5], strict=True)
        )
        n_terms = builder.extract_value(column_offsets.shape, 0)

        starts = [
            builder.gep(looked_up.data, [builder.load(builder.gep(row_offsets.data, [builder.add(first, word(r))]))])
            for r in range(n)
        ]
        sums = [[cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(n_vectors)] for _ in range(n)]
        with cgutils.for_range(builder, n_terms) as loop:
            column = builder.load(builder.gep(column_offsets.data, [loop.index]))
            parts = vectors(context, builder, right, matrix, loop.index, at, n_vectors)
            entries = [builder.load(part, align=size) for part in parts]
            for start, row in zip(starts, sums, strict=True):
                weight = broadcast(builder, builder.load(builder.gep(start, [column])))
                for held, entry in zip(row, entries, strict=True):
                    product = builder.fmul(weight, entry, flags=("contract",))
                    builder.store(builder.fadd(builder.load(held), product, flags=("contract",)), held)
        for r, row in enumerate(sums):
            for held, part in zip(
                row, vectors(context, builder, target, out, builder.add(first, word(r)), at, n_vectors), strict=True
            ):
                builder.store(builder.load(held), part, align=size)
        return context.get_dummy_value()

    return types.void(out, source, rows, columns, matrix, types.intp, types.intp, n_rows, width), codegen


@inner(forceinline=True, **OPTIONS)
def multiply_strip(out, source, rows, columns, matrix, at, width):
    """All rows of columns at : at + width, a literal: tiles of ROWS rows, then the rows that are left one by one."""
    n, r = rows.shape[0], 0
    while r + ROWS <= n:
        multiply_tile(out, source, rows, columns, matrix, r, at, ROWS, width)
        r += ROWS
    while r < n:
        multiply_tile(out, source, rows, columns, matrix, r, at, 1, width)
        r += 1


@inner(**OPTIONS)
def multiply(out, source, rows, columns, matrix):
    """out[r] (w,) = Σ_k source[rows[r] + columns[k]] matrix[k] (w,), for each of R rows.

    source : contiguous, read as a flat array; rows (R,), columns (K,) : int64, and each rows[r] + columns[k] is a place of source
    matrix : (K, w), w a multiple of 16; out : (R, w), or more rows
    """
    at, width = 0, out.shape[1]
    while at + COLUMNS <= width:
        multiply_strip(out, source, rows, columns, matrix, at, COLUMNS)
        at += COLUMNS
    if at + 32 <= width:
        multiply_strip(out, source, rows, columns, matrix, at, 32)
        at += 32
    if at < width:
        multiply_strip(out, source, rows, columns, matrix, at, 16)
