"""Eight float32 lanes as one numba value, so that the kernels compile to vector code.

LLVM's auto-vectoriser handles the forward kernel but not the backward kernel, where it cannot prove that the arrays do
not overlap. These types map to LLVM's ``<8 x float>`` and ``<8 x i1>``: one AVX register, or two of SSE or NEON.
Arithmetic is exact IEEE in the written order (:func:`fma` fuses if the processor has the instruction), so a result
depends on neither the optimiser nor the kernel that a function is inlined into.

For jitted code only; the values never reach Python.
"""

from __future__ import annotations

import operator
from typing import Any, ClassVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model

LANES = 8

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_BITS = ir.VectorType(ir.IntType(32), LANES)
_BOOLS = ir.VectorType(ir.IntType(1), LANES)


class Float32x8(types.Type):
    """Numba type of eight float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="float32x8")


class Boolx8(types.Type):
    """Numba type of eight booleans, the result of comparing lanes."""

    def __init__(self) -> None:
        super().__init__(name="boolx8")


float32x8 = Float32x8()
boolx8 = Boolx8()


@register_model(Float32x8)
class _Float32x8Model(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Float32x8) -> None:
        super().__init__(manager, numba_type, _FLOATS)


@register_model(Boolx8)
class _Boolx8Model(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Boolx8) -> None:
        super().__init__(manager, numba_type, _BOOLS)


def _register_operator(function: Any, emit: Any, result: types.Type = float32x8) -> None:
    """Compile ``function(float32x8, float32x8)`` to the instruction that ``emit(builder, a, b)`` writes."""

    class Template(ConcreteTemplate):
        cases: ClassVar = [signature(result, float32x8, float32x8)]

    infer_global(function)(Template)

    @lower_builtin(function, float32x8, float32x8)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)


_register_operator(operator.add, lambda builder, a, b: builder.fadd(a, b))
_register_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_register_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_register_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))
# Ordered comparisons: a lane with NaN is False.
_register_operator(operator.le, lambda builder, a, b: builder.fcmp_ordered("<=", a, b), boolx8)
_register_operator(operator.lt, lambda builder, a, b: builder.fcmp_ordered("<", a, b), boolx8)


def _element_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to the eight floats at flat ``index``; no bounds are checked."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """The eight float32 from flat ``index`` on of a contiguous array; any alignment, unchecked."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_element_pointer(context, builder, sig.args[0], *args), align=4)

    return float32x8(array, types.intp), codegen


@intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write eight float32 from flat ``index`` on of a contiguous array; any alignment, unchecked."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _element_pointer(context, builder, sig.args[0], *args[:2]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x8), codegen


@intrinsic
def splat(typing_context: Any, value: Any) -> Any:
    """``value`` in all lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_BITS, [0] * LANES))

    return float32x8(types.float32), codegen


@intrinsic
def lane_numbers(typing_context: Any) -> Any:
    """0, 1, ... 7."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(_FLOATS, [float(lane) for lane in range(LANES)])

    return float32x8(), codegen


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once where the processor has the instruction, else twice."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function_type = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
        function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.fmuladd.v{LANES}f32")
        return builder.call(function, args)

    return float32x8(float32x8, float32x8, float32x8), codegen


@intrinsic
def minimum(typing_context: Any, a: Any, b: Any) -> Any:
    """The lesser of the two; ``b`` where either is NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return float32x8(float32x8, float32x8), codegen


@intrinsic
def select(typing_context: Any, condition: Any, a: Any, b: Any) -> Any:
    """``a`` in the lanes where ``condition`` holds, else ``b``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(*args)

    return float32x8(boolx8, float32x8, float32x8), codegen


@intrinsic
def negative_abs(typing_context: Any, a: Any) -> Any:
    """``-abs(a)``: the sign bit set."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sign = ir.Constant(_BITS, [0x80000000] * LANES)
        return builder.bitcast(builder.or_(builder.bitcast(args[0], _BITS), sign), _FLOATS)

    return float32x8(float32x8), codegen


@intrinsic
def all_negative(typing_context: Any, a: Any) -> Any:
    """Whether the sign bit of every lane is set."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        signs = builder.icmp_signed("<", builder.bitcast(args[0], _BITS), ir.Constant(_BITS, [0] * LANES))
        packed = builder.bitcast(signs, ir.IntType(LANES))
        return builder.icmp_unsigned("==", packed, ir.Constant(ir.IntType(LANES), (1 << LANES) - 1))

    return types.boolean(float32x8), codegen


@intrinsic
def horizontal_sum(typing_context: Any, a: Any) -> Any:
    """Sum of the lanes, halves first: always the same order."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        total = args[0]
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        for step in (4, 2, 1):
            order = [lane + step if lane < step else lane for lane in range(LANES)]
            total = builder.fadd(total, builder.shuffle_vector(total, undefined, ir.Constant(_BITS, order)))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(float32x8), codegen
