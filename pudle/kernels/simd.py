"""Vectorised loops for the other kernels, above all weighted sums of matrix rows, at nearly the machine's peak rate.

``add_rows`` is the product of a sparse row vector and a matrix. A strip of up to 128 columns stays in registers while the rows
are added, so that a row costs only its loads and multiply-adds. A loop over columns in plain numba loads and stores the sums for
every few rows, and checks that its arrays do not overlap, which makes it slower (``benchmarks/README.md`` has the times). Therefore this
loop, and the loops that pack and unpack the non-zero entries of vectors, are written as vector instructions of LLVM.

Preconditions of all loops: the arrays of numbers are all float32 or all float64 and contiguous in their last axis (``values`` of
``add_rows`` and similar loops may be strided), widths w are multiples of 16, and ``index`` holds 32-bit integers within the arrays. These
preconditions are not checked.
An argument described as a literal must be a constant in the source code, since it determines the number of registers.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pudle.kernels.cache import inner, keeps_code

LANES = 16  # all widths are multiples of it: a vector of 64 bytes in float32, which LLVM splits to the machine's width
REGISTER = 64  # bytes of the widest vector register, that of AVX-512
STRIP = 128  # columns of a strip of sums: 8 vectors of 16, which in float32 fill the 16 registers of AVX2
ROW_STRIP = 96  # columns of a row that is kept in registers: 6 vectors, the patch of a 9 x 9 filter (81 pixels)
CHAINS = 4  # the least number of independent sums that hides the latency of additions
# _nrt: nothing is allocated here, and counting references to the arrays passed around would take longer than the sums. contract and
# reassoc let LLVM fuse multiply-adds and add up in vectors; NaN and infinity are preserved.
OPTIONS = {"cache": keeps_code(), "nogil": True, "_nrt": False, "error_model": "numpy", "fastmath": {"contract", "reassoc"}}


@inner(forceinline=True, **OPTIONS)
def padded(width):
    """The smallest multiple of 16 that is at least ``width``."""
    return (width + LANES - 1) // LANES * LANES


def vectors(context, builder, array, kind, row, at, n_vectors):
    """Pointers to array[row, at : at + 16 n_vectors], as vectors; those of array[at : at + 16 n_vectors] for row None."""
    number, word, byte = context.get_value_type(kind.dtype), ir.IntType(64), ir.IntType(8)
    size, vector = context.get_abi_sizeof(number), ir.VectorType(number, LANES)
    offset = builder.mul(at, word(size))
    if row is not None:
        offset = builder.add(offset, builder.mul(row, builder.extract_value(array.strides, 0)))
    start = builder.gep(builder.bitcast(array.data, byte.as_pointer()), [offset])
    parts = (builder.gep(start, [word(size * LANES * v)]) for v in range(n_vectors))
    return [builder.bitcast(part, vector.as_pointer()) for part in parts]


def broadcast(builder, number):
    """A vector of which every entry is ``number``."""
    index = ir.IntType(32)
    single = builder.insert_element(ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined), number, index(0))
    return builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(index, LANES), None))


@intrinsic(prefer_literal=True)
def add_strip(typing_context, out, base, at, matrix, index, values, count, width):
    """out[c] = base[c] + Σ_i values[i] matrix[i, c] over i in index[:count], for columns c from ``at`` to ``at + width``, a literal.

    In LLVM: sums[0] starts with base and others with 0; row k of index[:count] is added to sums[k % n_rows]; out is the total of all sums.
    """
    if not isinstance(width, types.IntegerLiteral):
        return None
    n_vectors = width.literal_value // LANES
    n_rows = -(-CHAINS // n_vectors)  # so many rows at once, each with sums of its own

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

        def add_row(k, sums):
            """sums += values[i] matrix[i] for i = index[k]"""
            row = builder.load(pointer(rows.data, builder.mul(k, builder.extract_value(rows.strides, 0)), ir.IntType(32)))
            row = builder.sext(row, word)
            weight = builder.load(pointer(weights.data, builder.mul(row, builder.extract_value(weights.strides, 0)), number))
            weight = broadcast(builder, weight)
            for held, entries in zip(sums, vectors(context, builder, source, matrix, row, column, n_vectors), strict=True):
                product = builder.fmul(weight, builder.load(entries, align=size), flags=("contract",))
                builder.store(builder.fadd(builder.load(held), product, flags=("contract",)), held)

        sums = [[cgutils.alloca_once(builder, vector) for _ in range(n_vectors)] for _ in range(n_rows)]
        for v, entries in enumerate(vectors(context, builder, start, base, None, column, n_vectors)):
            for r in range(n_rows):
                builder.store(ir.Constant(vector, None) if r else builder.load(entries, align=size), sums[r][v])
        grouped = builder.sub(n_terms, builder.srem(n_terms, word(n_rows)))
        with cgutils.for_range_slice(builder, word(0), grouped, word(n_rows)) as (k, _):
            for r in range(n_rows):
                add_row(builder.add(k, word(r)), sums[r])
        with cgutils.for_range_slice(builder, grouped, n_terms, word(1)) as (k, _):
            add_row(k, sums[0])
        for v, entries in enumerate(vectors(context, builder, target, out, None, column, n_vectors)):
            total = builder.load(sums[0][v])
            for row in sums[1:]:
                total = builder.fadd(total, builder.load(row[v]))
            builder.store(total, entries, align=size)
        return context.get_dummy_value()

    return types.void(out, base, types.intp, matrix, index, values, types.intp, width), codegen


@inner(forceinline=True, **OPTIONS)
def add_strips(out, base, matrix, index, values, count):
    """:func:`add_rows`, put in place of the call, strip by strip; each width needs a literal of its own."""
    at, width = 0, out.shape[0]
    while at + STRIP <= width:
        add_strip(out, base, at, matrix, index, values, count, STRIP)
        at += STRIP
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


@intrinsic(prefer_literal=True)
def dot_strip(typing_context, out, base, factor, matrix, at, index, count, row, width):
    """out[i] = base[i] + factor Σ_c matrix[i, c] row[c] for i in index[:count], over columns c from ``at`` to ``at + width``, a literal.

    In LLVM: ``row`` is loaded into registers once; products of 16 columns are added up as vectors, and their 16 sums at the end.
    """
    if not isinstance(width, types.IntegerLiteral):
        return None
    n_vectors = width.literal_value // LANES

    def codegen(context, builder, signature, arguments):
        number, word = context.get_value_type(out.dtype), ir.IntType(64)
        size, vector = context.get_abi_sizeof(number), ir.VectorType(number, LANES)
        column, n_terms = arguments[4], arguments[6]
        scale = context.cast(builder, arguments[2], factor, out.dtype)
        target, start, left, rows, right = (
            context.make_array(kind)(context, builder, arguments[k])
            for k, kind in ((0, out), (1, base), (3, matrix), (5, index), (7, row))
        )
        kind = ir.FunctionType(number, [number, vector])
        add_up = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f{8 * size}")
        held = [builder.load(part, align=size) for part in vectors(context, builder, right, row, None, column, n_vectors)]
        with cgutils.for_range(builder, n_terms) as loop:
            i = builder.zext(builder.load(builder.gep(rows.data, [loop.index])), word)
            total = ir.Constant(vector, None)
            for entries, part in zip(held, vectors(context, builder, left, matrix, i, column, n_vectors), strict=True):
                product = builder.fmul(builder.load(part, align=size), entries, flags=("contract",))
                total = builder.fadd(total, product, flags=("contract",))
            product = builder.fmul(scale, builder.call(add_up, [ir.Constant(number, 0.0), total], fastmath=("reassoc",)))
            builder.store(builder.fadd(builder.load(builder.gep(start.data, [i])), product), builder.gep(target.data, [i]))
        return context.get_dummy_value()

    return types.void(out, base, factor, matrix, types.intp, index, types.intp, row, width), codegen


@inner(forceinline=True, **OPTIONS)
def add_outer(matrix, index, values, factor, count, row):
    """matrix[i] (w,) += factor values[i] row (w,) for i in index[:count]. The indices differ."""
    for k in range(count):
        i = index[k]
        weight = factor * values[i]
        for c in range(row.shape[0]):
            matrix[i, c] += weight * row[c]


@inner(forceinline=True, **OPTIONS)
def add_dots(out, base, factor, matrix, index, count, row):
    """out[i] = base[i] + factor ⟨matrix[i], row⟩ for i in index[:count], row (w,); out may be base. The indices differ."""
    at, width = 0, row.shape[0]
    if width >= ROW_STRIP:  # the first strip starts from base, the others add to out
        dot_strip(out, base, factor, matrix, 0, index, count, row, ROW_STRIP)
        at = ROW_STRIP
    else:
        dot_strip(out, base, factor, matrix, 0, index, count, row, LANES)
        at = LANES
    while at + ROW_STRIP <= width:
        dot_strip(out, out, factor, matrix, at, index, count, row, ROW_STRIP)
        at += ROW_STRIP
    while at < width:
        dot_strip(out, out, factor, matrix, at, index, count, row, LANES)
        at += LANES


def _registers(context, builder, kind, flags, at, size):
    """Which of flags[at : at + 16] are not 0, in parts that fill a register with numbers of ``size`` bytes: (offset, bits, number)."""
    number, lanes = context.get_value_type(kind.dtype), REGISTER // size
    for first in range(0, LANES, lanes):
        place = builder.gep(context.make_array(kind)(context, builder, flags).data, [builder.add(at, at.type(first))])
        vector = ir.VectorType(number, lanes)
        entries = builder.load(builder.bitcast(place, vector.as_pointer()), align=context.get_abi_sizeof(number))
        bits = builder.fcmp_unordered("!=", entries, ir.Constant(vector, None))
        yield first, bits, builder.zext(builder.ctpop(builder.bitcast(bits, ir.IntType(lanes))), at.type)


@intrinsic
def append_where(typing_context, out, count, values, at, flags):
    """out[count :] = those of values[at : at + 16] whose flags[at : at + 16] are not 0, in order; returns how many. out has room for 16.

    In LLVM: a register of values is compressed by its flags, and stored in full; what lies behind the kept ones is not defined.
    """

    def codegen(context, builder, signature, arguments):
        out_, count_, values_, at_, flags_ = arguments
        size = context.get_abi_sizeof(context.get_value_type(values.dtype))
        # As integers: on processors without AVX-512, LLVM 22 fails to compile this for floating-point vectors.
        vector, total = ir.VectorType(ir.IntType(8 * size), REGISTER // size), at_.type(0)
        target, source = (
            context.make_array(kind)(context, builder, array).data for kind, array in ((out, out_), (values, values_))
        )
        name = f"llvm.experimental.vector.compress.v{REGISTER // size}i{8 * size}"
        for first, bits, found in _registers(context, builder, flags, flags_, at_, size):
            kind = ir.FunctionType(vector, [vector, bits.type, vector])
            compress = cgutils.get_or_insert_function(builder.module, kind, name)
            entries = builder.bitcast(builder.gep(source, [builder.add(at_, at_.type(first))]), vector.as_pointer())
            entries = builder.call(compress, [builder.load(entries, align=size), bits, ir.Constant(vector, None)])
            place = builder.gep(target, [builder.add(count_, total)])
            builder.store(entries, builder.bitcast(place, vector.as_pointer()), align=size)
            total = builder.add(total, found)
        return total

    return types.intp(out, types.intp, values, types.intp, flags), codegen


@intrinsic
def add_where(typing_context, out, at, values, count, flags):
    """Those of out[at : at + 16] whose flags[at : at + 16] are not 0 += values[count :], in order; returns how many.

    In LLVM: as many values as flags are not 0 are expanded to their places, with 0 between, and added.
    """

    def codegen(context, builder, signature, arguments):
        out_, at_, values_, count_, flags_ = arguments
        number, size = context.get_value_type(values.dtype), context.get_abi_sizeof(context.get_value_type(values.dtype))
        vector, total = ir.VectorType(number, REGISTER // size), at_.type(0)
        target, source = (
            context.make_array(kind)(context, builder, array).data for kind, array in ((out, out_), (values, values_))
        )
        for first, bits, found in _registers(context, builder, flags, flags_, at_, size):
            kind = ir.FunctionType(vector, [source.type, bits.type, vector])
            expand = cgutils.get_or_insert_function(
                builder.module, kind, f"llvm.masked.expandload.v{REGISTER // size}f{8 * size}"
            )
            entries = builder.call(expand, [builder.gep(source, [builder.add(count_, total)]), bits, ir.Constant(vector, None)])
            place = builder.bitcast(builder.gep(target, [builder.add(at_, at_.type(first))]), vector.as_pointer())
            builder.store(builder.fadd(builder.load(place, align=size), entries), place, align=size)
            total = builder.add(total, found)
        return total

    return types.intp(out, types.intp, values, types.intp, flags), codegen


@intrinsic
def mark_where(typing_context, marks, place, flags, at):
    """marks[place : place + 2] = which of flags[at : at + 16] are not 0, a bit for each, in 8-bit integers."""

    def codegen(context, builder, signature, arguments):
        marks_, place_, flags_, at_ = arguments
        size = context.get_abi_sizeof(context.get_value_type(flags.dtype))
        target = context.make_array(marks)(context, builder, marks_).data
        for first, bits, _ in _registers(context, builder, flags, flags_, at_, size):
            word = ir.IntType(REGISTER // size)
            here = builder.gep(target, [builder.add(place_, place_.type(first // 8))])
            builder.store(builder.bitcast(bits, word), builder.bitcast(here, word.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(marks, types.intp, flags, types.intp), codegen


@intrinsic
def spread_where(typing_context, out, at, values, count, marks, place):
    """out[at : at + 16] = values[count :], in order, where marks[place : place + 2] have a bit, and else 0; returns how many bits they have."""

    def codegen(context, builder, signature, arguments):
        out_, at_, values_, count_, marks_, place_ = arguments
        number, size = context.get_value_type(values.dtype), context.get_abi_sizeof(context.get_value_type(values.dtype))
        lanes, total = REGISTER // size, at_.type(0)
        vector, flags, word = ir.VectorType(number, lanes), ir.VectorType(ir.IntType(1), lanes), ir.IntType(lanes)
        target, source, masks = (
            context.make_array(kind)(context, builder, array).data
            for kind, array in ((out, out_), (values, values_), (marks, marks_))
        )
        kind = ir.FunctionType(vector, [source.type, flags, vector])
        expand = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.expandload.v{lanes}f{8 * size}")
        for first in range(0, LANES, lanes):
            here = builder.gep(masks, [builder.add(place_, place_.type(first // 8))])
            bits = builder.load(builder.bitcast(here, word.as_pointer()), align=1)
            start = builder.gep(source, [builder.add(count_, total)])
            entries = builder.call(expand, [start, builder.bitcast(bits, flags), ir.Constant(vector, None)])
            there = builder.gep(target, [builder.add(at_, at_.type(first))])
            builder.store(entries, builder.bitcast(there, vector.as_pointer()), align=size)
            total = builder.add(total, builder.zext(builder.ctpop(bits), at_.type))
        return total

    return types.intp(out, types.intp, values, types.intp, marks, types.intp), codegen


@inner(forceinline=True, **OPTIONS)
def compress(out, count, marks, place, values):
    """out[count :] = those of ``values`` (w,) that are not 0, and marks[place : place + w / 8] = which; returns how many.

    ``out`` has room for 16 more, and marks (8-bit integers) for w / 8.
    """
    found = 0
    for at in range(0, values.shape[0], LANES):
        mark_where(marks, place + at // 8, values, at)
        found += append_where(out, count + found, values, at, values)
    return found


@inner(forceinline=True, **OPTIONS)
def expand(out, values, count, marks, place):
    """out (w,) = the vector of which :func:`compress` kept values[count :] and marks[place :]; returns how many entries are not 0."""
    found = 0
    for at in range(0, out.shape[0], LANES):
        found += spread_where(out, at, values, count + found, marks, place + at // 8)
    return found


@inner(forceinline=True, **OPTIONS)
def pick(out, values, flags):
    """out[:n] = those of ``values`` (w,) whose ``flags`` (w,) are not 0, in order; returns n. NaN counts as not 0.

    ``out`` has room for n + 16, and is not defined from n on; values are numbers, or uint32.
    """
    count = 0
    for at in range(0, flags.shape[0], LANES):
        count += append_where(out, count, values, at, flags)
    return count


@inner(forceinline=True, **OPTIONS)
def pick_padded(out, values, flags):
    """:func:`pick`, and zeros behind up to a multiple of 16."""
    count = pick(out, values, flags)
    for j in range(count, padded(count)):
        out[j] = 0


@inner(forceinline=True, **OPTIONS)
def add_spread(out, values, flags):
    """The k-th entry of ``out`` (w,) whose ``flags`` (w,) is not 0 += values[k]: the other way round than :func:`pick`."""
    count = 0
    for at in range(0, out.shape[0], LANES):
        count += add_where(out, at, values, count, flags)


@inner(**OPTIONS)
def add_rows(out, base, matrix, index, values, count):
    """out (w,) = base (w,) + Σ_i values[i] matrix[i] over i in index[:count]; out may be base. A row vector times a matrix."""
    add_strips(out, base, matrix, index, values, count)


@inner(**OPTIONS)
def add_products(out, used, matrix, index, values, count):
    """out[i] (w,) += Σ_k values[k, i] matrix[k] over k in index[:count], for each row i with used[i] ≠ 0: valuesᵀ times a matrix."""
    for i in range(out.shape[0]):
        if used[i] != 0:
            add_strips(out[i], out[i], matrix, index, values[:, i], count)


@inner(forceinline=True, **OPTIONS)
def add_few_rows(out, base, matrix, index, values, count):
    """:func:`add_rows` for ``out`` of 16, 32, 48 or 64 entries, put in place of the call."""
    width = out.shape[0]
    if width == 64:
        add_strip(out, base, 0, matrix, index, values, count, 64)
    elif width == 48:
        add_strip(out, base, 0, matrix, index, values, count, 48)
    elif width == 32:
        add_strip(out, base, 0, matrix, index, values, count, 32)
    else:
        add_strip(out, base, 0, matrix, index, values, count, 16)


@inner(forceinline=True, **OPTIONS)
def copy(out, values):
    """out (w,) = values (w,). (Slice assignment looks for overlaps first.)"""
    for j in range(out.shape[0]):
        out[j] = values[j]


@inner(forceinline=True, **OPTIONS)
def clear(out):
    """out (w,) = 0."""
    for j in range(out.shape[0]):
        out[j] = 0


@inner(forceinline=True, **OPTIONS)
def n_nonzero(z):
    """#{j : z_j ≠ 0} for z (w,). NaN counts."""
    count = np.int32(0)
    for j in range(z.shape[0]):
        count += z[j] != 0
    return count


@inner(forceinline=True, **OPTIONS)
def n_outside(u, low, high):
    """#{j : u_j not in (low, high)} for u (w,). NaN counts."""
    count = np.int32(0)
    for j in range(u.shape[0]):
        count += not ((u[j] > low) & (u[j] < high))
    return count
