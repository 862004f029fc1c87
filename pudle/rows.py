"""Loops over vectors for :mod:`pudle.working_sets`; above all weighted sums of matrix rows, at nearly the machine's rate.

``add_rows`` is the product of a sparse row vector and a matrix. A strip of up to 128 columns stays in registers while the rows
go by, so that a row costs its loads and multiply-adds alone. A loop over columns in plain numba loads and stores the sums for
every few rows, and checks that its arrays do not overlap: half the rate and less. So this one, and the search for entries that
are not 0, are written as vector instructions. All arrays are float32 or all float64, and widths (w) multiples of 16.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # all widths are multiples of it; a vector that LLVM cuts to the machine's width
# _nrt: nothing is allocated here, and counting references to the arrays passed around would take longer than the sums
OPTIONS = {"cache": True, "nogil": True, "_nrt": False, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}


@intrinsic(prefer_literal=True)
def add_strip(typing_context, out, base, at, matrix, index, values, count, width):
    """out = base + Σ_i values[i] matrix[i] over i in index[:count], from column ``at`` to ``at + width``, a literal."""
    if not isinstance(width, types.IntegerLiteral):
        return None
    n_vectors = width.literal_value // LANES
    n_rows = max(1, 4 // n_vectors)  # independent sums, to hide the latency of the additions

    def codegen(context, builder, signature, arguments):
        number, word, byte = context.get_value_type(out.dtype), ir.IntType(64), ir.IntType(8)
        size = context.get_abi_sizeof(number)
        vector = ir.VectorType(number, LANES)
        column, n_terms = arguments[2], arguments[6]
        target, start, source, rows, weights = (
            context.make_array(kind)(context, builder, array)
            for kind, array in zip((out, base, matrix, index, values), [*arguments[:2], *arguments[3:6]], strict=True)
        )

        def pointer(base, offset, kind):
            return builder.bitcast(builder.gep(builder.bitcast(base, byte.as_pointer()), [offset]), kind.as_pointer())

        def vectors(base, offset):
            offset = builder.add(offset, builder.mul(column, word(size)))
            return [pointer(base, builder.add(offset, word(size * LANES * v)), vector) for v in range(n_vectors)]

        def add_row(k, sums):
            """sums += values[i] matrix[i] for i = index[k]"""
            row = builder.load(pointer(rows.data, builder.mul(k, builder.extract_value(rows.strides, 0)), ir.IntType(32)))
            row = builder.sext(row, word)
            weight = builder.load(pointer(weights.data, builder.mul(row, builder.extract_value(weights.strides, 0)), number))
            single = builder.insert_element(ir.Constant(vector, ir.Undefined), weight, ir.IntType(32)(0))
            weight = builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))
            offset = builder.mul(row, builder.extract_value(source.strides, 0))
            for held, entries in zip(sums, vectors(source.data, offset), strict=True):
                product = builder.fmul(weight, builder.load(entries, align=size), flags=("contract",))
                builder.store(builder.fadd(builder.load(held), product, flags=("contract",)), held)

        sums = [[cgutils.alloca_once(builder, vector) for _ in range(n_vectors)] for _ in range(n_rows)]
        for v, entries in enumerate(vectors(start.data, word(0))):
            for r in range(n_rows):
                builder.store(ir.Constant(vector, None) if r else builder.load(entries, align=size), sums[r][v])
        whole = builder.sub(n_terms, builder.srem(n_terms, word(n_rows)))
        with cgutils.for_range_slice(builder, word(0), whole, word(n_rows)) as (k, _):
            for r in range(n_rows):
                add_row(builder.add(k, word(r)), sums[r])
        with cgutils.for_range_slice(builder, whole, n_terms, word(1)) as (k, _):
            add_row(k, sums[0])
        for v, entries in enumerate(vectors(target.data, word(0))):
            total = builder.load(sums[0][v])
            for row in sums[1:]:
                total = builder.fadd(total, builder.load(row[v]))
            builder.store(total, entries, align=size)
        return context.get_dummy_value()

    return types.void(out, base, types.intp, matrix, index, values, types.intp, width), codegen


@njit(forceinline=True, **OPTIONS)
def add_strips(out, base, matrix, index, values, count):
    """``add_rows`` in place."""
    at, width = 0, out.shape[0]
    while at + 128 <= width:
        add_strip(out, base, at, matrix, index, values, count, 128)
        at += 128
    left = width - at
    if left == 112:
        add_strip(out, base, at, matrix, index, values, count, 112)
    elif left == 96:
        add_strip(out, base, at, matrix, index, values, count, 96)
    elif left == 80:
        add_strip(out, base, at, matrix, index, values, count, 80)
    elif left == 64:
        add_strip(out, base, at, matrix, index, values, count, 64)
    elif left == 48:
        add_strip(out, base, at, matrix, index, values, count, 48)
    elif left == 32:
        add_strip(out, base, at, matrix, index, values, count, 32)
    elif left == 16:
        add_strip(out, base, at, matrix, index, values, count, 16)


@intrinsic
def append_nonzeros(typing_context, index, count, values, at):
    """Write which of values[at : at + 16] are not 0 to index[count:], which has room for 16; returns how many they are."""

    def codegen(context, builder, signature, arguments):
        number, word, integer = context.get_value_type(values.dtype), ir.IntType(64), ir.IntType(32)
        vector, integers = ir.VectorType(number, LANES), ir.VectorType(integer, LANES)
        out, count, array, at = arguments
        array = context.make_array(values)(context, builder, array)
        entries = builder.bitcast(builder.gep(array.data, [at]), vector.as_pointer())
        entries = builder.load(entries, align=context.get_abi_sizeof(number))
        bits = builder.fcmp_unordered("!=", entries, ir.Constant(vector, None))
        first = builder.insert_element(ir.Constant(integers, ir.Undefined), builder.trunc(at, integer), integer(0))
        places = builder.shuffle_vector(first, first, ir.Constant(integers, None))
        places = builder.add(places, ir.Constant(integers, list(range(LANES))))
        kind = ir.FunctionType(integers, [integers, bits.type, integers])
        compress = cgutils.get_or_insert_function(builder.module, kind, f"llvm.experimental.vector.compress.v{LANES}i32")
        places = builder.call(compress, [places, bits, ir.Constant(integers, None)])
        target = builder.gep(context.make_array(index)(context, builder, out).data, [count])
        builder.store(places, builder.bitcast(target, integers.as_pointer()), align=4)
        return builder.zext(builder.ctpop(builder.bitcast(bits, ir.IntType(LANES))), word)

    return types.intp(index, types.intp, values, types.intp), codegen


@njit(forceinline=True, **OPTIONS)
def nonzeros(values, index):
    """Write which entries of ``values`` (w,) are not 0 to ``index`` (at least w + 16,); returns how many."""
    count = 0
    for at in range(0, values.shape[0], LANES):
        count += append_nonzeros(index, count, values, at)
    return count


@njit(**OPTIONS)
def add_rows(out, base, matrix, index, values, count):
    """out (w,) = base (w,) + Σ_i values[i] matrix[i] over i in index[:count], 32-bit integers."""
    add_strips(out, base, matrix, index, values, count)


@njit(**OPTIONS)
def add_products(out, used, matrix, index, values, count):
    """out[i] (w,) += Σ_k values[k, i] matrix[k] over k in index[:count], for each i with used[i] ≠ 0."""
    for i in range(out.shape[0]):
        if used[i] != 0:
            add_strips(out[i], out[i], matrix, index, values[:, i], count)


@njit(forceinline=True, **OPTIONS)
def add_few_rows(out, base, matrix, index, values, count):
    """The same for narrow ``out`` (16 to 64,), without a call."""
    for at in range(0, out.shape[0], LANES):
        add_strip(out, base, at, matrix, index, values, count, 16)


@njit(forceinline=True, **OPTIONS)
def copy(out, values):
    """out = values. (Slice assignment looks for overlaps first.)"""
    for j in range(out.shape[0]):
        out[j] = values[j]


@njit(forceinline=True, **OPTIONS)
def clear(out):
    """out = 0."""
    for j in range(out.shape[0]):
        out[j] = 0


@njit(forceinline=True, **OPTIONS)
def padded(width):
    """The next multiple of 16."""
    return (width + LANES - 1) // LANES * LANES


@njit(forceinline=True, **OPTIONS)
def squared_distance(a, b):
    """‖a − b‖²."""
    total = a[0] * 0
    for j in range(a.shape[0]):
        total += (a[j] - b[j]) * (a[j] - b[j])
    return total


@njit(forceinline=True, **OPTIONS)
def n_nonzero(z):
    """How many entries are not 0."""
    count = np.int32(0)
    for j in range(z.shape[0]):
        count += z[j] != 0
    return count


@njit(forceinline=True, **OPTIONS)
def n_outside(u, low, high):
    """How many entries are not within (low, high)."""
    count = np.int32(0)
    for j in range(u.shape[0]):
        count += not ((u[j] > low) & (u[j] < high))
    return count
