"""SIMD intrinsics for the CPU loops, as short vectors that LLVM's loop vectoriser does not find.

Each function is inlined as a few LLVM instructions; indices are unsigned and not checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_TWO, _EIGHT = ir.VectorType(_FLOAT, 2), ir.VectorType(_FLOAT, 8)


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def trilinear(typing: Any, voxels: Any, first: Any, row: Any, slab: Any, wx: Any, wy: Any, wz: Any) -> Any:
    """Trilinear interpolation of the eight voxels from index `first` on; the weights are those of the farther ones.

    The two along z are adjacent, loaded as one vector and interpolated together along the other axes: four loads
    instead of eight, half of the arithmetic. (Hardware gathers are slower than either with the microcode patches
    against data leaks.)
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        voxels, first, row, slab, wx, wy, wz = arguments
        data = context.make_array(signature.args[0])(context, builder, voxels).data

        def pair(index: Any) -> Any:
            return _load(builder, data, index, _TWO)

        def lerp(near: Any, far: Any, weight: Any) -> Any:
            step = builder.fmul(builder.fsub(far, near), weight, flags=("contract",))
            return builder.fadd(near, step, flags=("contract",))

        beside = builder.add(first, slab)
        along_x, along_y = _both(builder, wx), _both(builder, wy)
        front = lerp(pair(first), pair(builder.add(first, row)), along_y)
        back = lerp(pair(beside), pair(builder.add(beside, row)), along_y)
        value = lerp(front, back, along_x)
        near, far = (builder.extract_element(value, _INT(lane)) for lane in range(2))
        return lerp(near, far, wz)

    return types.float32(voxels, first, row, slab, wx, wy, wz), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def add_pair(typing: Any, into: Any, to: Any, share: Any, near: Any, far: Any) -> Any:
    """Adds share * near and share * far to two adjacent floats."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into, to, share, near, far = arguments
        data = context.make_array(signature.args[0])(context, builder, into).data
        weights = builder.insert_element(ir.Constant(_TWO, ir.Undefined), near, _INT(0))
        weights = builder.insert_element(weights, far, _INT(1))
        part = builder.fmul(_both(builder, share), weights, flags=("contract",))
        _store(builder, data, to, builder.fadd(_load(builder, data, to, _TWO), part, flags=("contract",)))
        return context.get_dummy_value()

    return types.void(into, to, share, near, far), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def copy_eight(typing: Any, into: Any, to: Any, source: Any, start: Any) -> Any:
    """Copies eight floats."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into, to, source, start = arguments
        data = context.make_array(signature.args[2])(context, builder, source).data
        target = context.make_array(signature.args[0])(context, builder, into).data
        _store(builder, target, to, _load(builder, data, start, _EIGHT))
        return context.get_dummy_value()

    return types.void(into, to, source, start), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def move_eight(typing: Any, into: Any, to: Any, source: Any, start: Any) -> Any:
    """Adds eight floats to others and sets the source to zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into, to, source, start = arguments
        data = context.make_array(signature.args[2])(context, builder, source).data
        target = context.make_array(signature.args[0])(context, builder, into).data
        added = builder.fadd(_load(builder, target, to, _EIGHT), _load(builder, data, start, _EIGHT))
        _store(builder, target, to, added)
        _store(builder, data, start, ir.Constant(_EIGHT, [0.0] * 8))
        return context.get_dummy_value()

    return types.void(into, to, source, start), generate


def _load(builder: Any, data: Any, index: Any, kind: ir.VectorType) -> Any:
    return builder.load(builder.bitcast(builder.gep(data, [index]), kind.as_pointer()), align=4)


def _store(builder: Any, data: Any, index: Any, value: Any) -> None:
    builder.store(value, builder.bitcast(builder.gep(data, [index]), value.type.as_pointer()), align=4)


def _both(builder: Any, weight: Any) -> Any:
    one = builder.insert_element(ir.Constant(_TWO, ir.Undefined), weight, _INT(0))
    return builder.insert_element(one, weight, _INT(1))
