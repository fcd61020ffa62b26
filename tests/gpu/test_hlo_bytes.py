"""Bytes accessed, against what small programs must read and write."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import hlo_bytes

F32 = 4


def compiled(function, *shapes):
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*args).compile().as_text()


@pytest.mark.parametrize(
    ("text", "size"),
    [("f32[2,3]{1,0}", 24), ("bf16[4]", 8), ("pred[5]{0}", 5), ("s32[]", 4), ("(f32[2]{0}, u8[3]{0})", 11)],
)
def test_sizes_of_shapes(text, size):
    assert hlo_bytes.size(text) == size


def test_a_product_of_matrices_reads_two_and_writes_one():
    text = compiled(lambda a, b: a @ b, (64, 32), (32, 16))
    assert hlo_bytes.accessed(text) == F32 * (64 * 32 + 32 * 16 + 64 * 16)


def test_a_fusion_counts_its_ends_and_not_its_inside():
    text = compiled(lambda a, b: jnp.tanh(a * b + 1) * 2, (1000,), (1000,))
    assert hlo_bytes.accessed(text) == F32 * 3 * 1000


def test_a_loop_counts_its_trips():
    def steps(trips):
        def run(a, b):
            return jax.lax.fori_loop(0, trips, lambda i, x: jnp.tanh(x @ b), a)

        return hlo_bytes.accessed(compiled(run, (64, 64), (64, 64)))

    # A product and a tanh each trip; a few bytes of the counter, and copies at the start, come to it.
    each = F32 * (3 + 2) * 64 * 64
    assert each <= (steps(20) - steps(10)) / 10 <= each + 100


TAKES_A_ROW = """HloModule m

%inside (p0: f32[1000,8], p1: s32[]) -> f32[1,8] {
  %p0 = f32[1000,8]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  %row = f32[1,8]{1,0} dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={1,8}
  ROOT %twice = f32[1,8]{1,0} add(%row, %row)
}

ENTRY %main (a: f32[1000,8], i: s32[]) -> f32[1,8] {
  %a = f32[1000,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %out = f32[1,8]{1,0} fusion(%a, %i), kind=kLoop, calls=%inside
}
"""


def test_of_an_operand_that_is_sliced_the_slice_counts():
    assert hlo_bytes.accessed(TAKES_A_ROW) == F32 * (8 + 1 + 8)


CALLS_CUDNN = """HloModule m

%body (x: f32[50,8,8,16], w: f32[16,3,3,16], v: f32[16,3,3,16]) -> f32[50,8,8,16] {
  %x = f32[50,8,8,16]{3,2,1,0} parameter(0)
  %w = f32[16,3,3,16]{3,2,1,0} parameter(1)
  %v = f32[16,3,3,16]{3,2,1,0} parameter(2)
  %one = (f32[50,8,8,16]{3,2,1,0}, u8[0]{0}) custom-call(%x, %w), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="first"}
  %y = f32[50,8,8,16]{3,2,1,0} get-tuple-element(%one), index=0
  %two = (f32[50,8,8,16]{3,2,1,0}, u8[0]{0}) custom-call(%y, %v), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="second"}
  %z = f32[50,8,8,16]{3,2,1,0} get-tuple-element(%two), index=0
  %three = (f32[50,8,8,16]{3,2,1,0}, u8[0]{0}) custom-call(%z, %w), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_o01i->b01f, feature_group_count=2, custom_call_target="__cudnn$convForward"
  ROOT %out = f32[50,8,8,16]{3,2,1,0} get-tuple-element(%three), index=0
}
"""


def test_convolutions_are_distinct_by_what_cudnn_sees_of_them():
    found = hlo_bytes.convolutions(CALLS_CUDNN)
    assert sorted(found.values()) == [1, 2]
    assert any("feature_group_count=2" in convolution for convolution in found)
    assert not hlo_bytes.convolutions(TAKES_A_ROW)


def test_kernels_are_those_of_the_largest_loop_body():
    def run(a):
        return jax.lax.fori_loop(0, 3, lambda i, x: jnp.sort(jnp.sort(x, 0), 1), a)

    text = compiled(run, (8, 8))
    assert hlo_bytes.kernels(text) >= 2
    assert hlo_bytes.kernels(TAKES_A_ROW) == 1
