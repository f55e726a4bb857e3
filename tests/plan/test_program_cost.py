"""Cost of small programs, with the arithmetic."""

from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from rlhf_jax.plan.cost import Collective, Cost, program_cost
from rlhf_jax.plan.hlo import parse_module


def cost(text):
    return program_cost(parse_module(text))


def entry(*lines, before=""):
    return "\n".join([before, "ENTRY %main () -> f32[] {", *(f"  {line}" for line in lines), "}"])


def test_a_product_costs_two_for_each_multiplication():
    found = cost(
        entry(
            "%a = bf16[2,16,64]{2,1,0} parameter(0)",
            "%b = bf16[2,64,32]{2,1,0} parameter(1)",
            "ROOT %c = f32[2,16,32]{2,1,0} dot(%a, %b), lhs_batch_dims={0}, "
            "lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={1}",
        )
    )
    assert found.flops == 2 * (2 * 16 * 32) * 64
    assert found.hbm == 2 * (2 * 16 * 64 + 2 * 64 * 32) + 4 * (2 * 16 * 32)
    assert found.collectives == Counter()


def test_a_product_written_as_a_convolution_costs_the_same():
    found = cost(
        entry(
            "%a = bf16[4096,256]{1,0} parameter(0)",
            "%b = bf16[256,128]{1,0} parameter(1)",
            "ROOT %c = bf16[4096,128]{1,0} convolution(%a, %b), dim_labels=bf_io->bf",
        )
    )
    assert found.flops == 2 * 4096 * 128 * 256


def test_holes_of_a_batched_product_cost_nothing():
    """A TPU's scores of 4 rows x 2 heads: [512, 64] x [64, 512] each, windows 4 x 2.

    Row r of the dilated operand meets window place r only: 4 pairs, of 4 x 4 without holes. The
    second dimension has one input and 2 windows with a padding of 1: 2 outputs, 1 meeting each.
    """
    found = cost(
        entry(
            "%q = bf16[4,512,64,1]{3,2,1,0} parameter(0)",
            "%k = bf16[4,512,2,64]{3,2,1,0} parameter(1)",
            "ROOT %s = f32[4,512,512,2]{2,1,3,0} convolution(%q, %k), window={size=4x2 stride=3x1 "
            "pad=0_0x1_1 lhs_dilate=4x1 rhs_reversal=0x1}, dim_labels=0bf1_0o1i->0bf1",
        )
    )
    assert found.flops == 2 * 512 * 64 * 512 * (4 * 2)


LOOP = """\
%body (state: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %state = (s32[], f32[8,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[8,8]{1,0} get-tuple-element(%state), index=1
  %y = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %z = f32[8,8]{1,0} all-reduce(%y), replica_groups=[2,2]<=[4], to_apply=%add
  ROOT %out = (s32[], f32[8,8]{1,0}) tuple(%i, %z)
}

%test (state.1: (s32[], f32[8,8])) -> pred[] {
  %state.1 = (s32[], f32[8,8]{1,0}) parameter(0)
  ROOT %yes = pred[] constant(true)
}
"""


def test_a_loop_costs_its_body_as_often_as_it_runs():
    found = cost(
        entry(
            "%first = (s32[], f32[8,8]{1,0}) parameter(0)",
            "ROOT %loop = (s32[], f32[8,8]{1,0}) while(%first), condition=%test, body=%body, "
            'backend_config={"known_trip_count":{"n":"5"}}',
            before=LOOP,
        )
    )
    assert found.flops == 5 * 2 * 8 * 8 * 8
    # 256 bytes an array; the product has three of them and the sum over devices two
    assert found.hbm == 5 * (3 + 2) * 256
    assert found.collectives == Counter({Collective("all-reduce", "[2,2]<=[4]"): 5 * 256})


FUSED = """\
%inner (big: f32[10,8], at: s32[], row: f32[1,8]) -> f32[10,8] {
  %big = f32[10,8]{1,0} parameter(0)
  %at = s32[] parameter(1)
  %row = f32[1,8]{1,0} parameter(2)
  %zero = s32[] constant(0)
  ROOT %new = f32[10,8]{1,0} dynamic-update-slice(%big, %row, %at, %zero)
}

%taken (all: f32[10,8], place: s32[]) -> f32[1,8] {
  %all = f32[10,8]{1,0} parameter(0)
  %place = s32[] parameter(1)
  %none = s32[] constant(0)
  ROOT %one = f32[1,8]{1,0} dynamic-slice(%all, %place, %none), dynamic_slice_sizes={1,8}
}
"""


def test_a_fusion_that_takes_or_writes_a_slice_moves_the_slice():
    found = cost(
        entry(
            "%stack = f32[10,8]{1,0} parameter(0)",
            "%n = s32[] parameter(1)",
            "%read = f32[1,8]{1,0} fusion(%stack, %n), kind=kLoop, calls=%taken",
            "ROOT %write = f32[10,8]{1,0} fusion(%stack, %n, %read), kind=kLoop, calls=%inner",
            before=FUSED,
        )
    )
    # read: 32 bytes of the slice in, 4 of the place, 32 out; write: 4, 32 of the row, 32 out
    assert found.hbm == (32 + 4 + 32) + (4 + 32 + 32)


VIEWED = """\
%reshaped (w: f32[64,32]) -> f32[64,32] {
  %w = f32[64,32]{1,0} parameter(0)
  ROOT %view = f32[64,32]{1,0} bitcast(%w)
}

%product (x: f32[2,32], whole: f32[64,32]) -> f32[2,64] {
  %x = f32[2,32]{1,0} parameter(0)
  %whole = f32[64,32]{1,0} parameter(1)
  %seen = f32[64,32]{1,0} fusion(%whole), kind=kLoop, calls=%reshaped
  ROOT %y = f32[2,64]{1,0} convolution(%x, %seen), dim_labels=bf_oi->bf
}
"""


def test_a_product_with_an_array_in_another_shape_reads_the_array():
    found = cost(
        entry(
            "%a = f32[2,32]{1,0} parameter(0)",
            "%b = f32[64,32]{1,0} parameter(1)",
            "ROOT %c = f32[2,64]{1,0} fusion(%a, %b), kind=kOutput, calls=%product",
            before=VIEWED,
        )
    )
    assert found.hbm == 4 * (2 * 32 + 64 * 32 + 2 * 64)


def test_arrays_on_the_chip_move_no_bytes_of_hbm():
    found = cost(
        entry(
            "%a = f32[8]{0} parameter(0)",
            "%b = f32[8]{0:S(1)} add(%a, %a)",
            "ROOT %c = f32[8]{0:S(1)} multiply(%b, %b)",
        )
    )
    assert found.hbm == 2 * 32


FETCHED = """\
%fetch (all: f32[10,8]) -> f32[2,8] {
  %all = f32[10,8]{1,0} parameter(0)
  ROOT %rows = f32[2,8]{1,0:S(1)} slice(%all), slice={[2:4], [0:8]}
}
"""


def test_a_slice_that_is_fetched_to_the_chip_is_read_once():
    found = cost(
        entry(
            "%stack = f32[10,8]{1,0} parameter(0)",
            "%begun = ((f32[10,8]), f32[2,8]{1,0:S(1)}, s32[]) async-start(%stack), calls=%fetch",
            "ROOT %done = f32[2,8]{1,0:S(1)} async-done(%begun)",
            before=FETCHED,
        )
    )
    assert found.hbm == 4 * 2 * 8


def test_a_slice_that_is_written_from_the_chip_is_written_once():
    found = cost(
        entry(
            "%stack = f32[10,8]{1,0} parameter(0)",
            "%row = f32[1,8]{1,0:S(1)} broadcast(), dimensions={}",
            "%at = s32[]{:S(1)} constant(3)",
            "ROOT %new = f32[10,8]{1,0} dynamic-update-slice(%stack, %row, %at, %at)",
        )
    )
    assert found.hbm == 4 * 8


SCATTERED = """\
%all-reduce-scatter.1 (x: f32[16]) -> f32[8] {
  %x = f32[16]{0} parameter(0)
  %sum = f32[16]{0} all-reduce(%x), replica_groups={{0,2},{1,3}}, to_apply=%add
  %at = s32[] constant(0)
  ROOT %part = f32[8]{0} dynamic-slice(%sum, %at), dynamic_slice_sizes={8}
}
"""


def test_a_fused_sum_and_slice_is_a_reduce_scatter():
    found = cost(
        entry(
            "%a = f32[16]{0} parameter(0)",
            "ROOT %b = f32[8]{0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1",
            before=SCATTERED,
        )
    )
    assert found.collectives == Counter({Collective("reduce-scatter", "{{0,2},{1,3}}"): 64})


def test_a_kernel_costs_what_its_author_noted():
    found = cost(
        entry(
            "%a = f32[8]{0} parameter(0)",
            'ROOT %b = f32[8]{0} custom-call(%a), custom_call_target="tpu_custom_call", '
            'backend_config={"custom_call_config":{"cost_estimate":{"flops":"640"}}}',
        )
    )
    assert found.flops == 640


@pytest.mark.parametrize(("kernel", "products"), [("fwd", 2), ("dq", 3), ("dkv", 4)])
@pytest.mark.parametrize(("most", "blocks"), [(4, 1 + 2 + 3 + 4), (2, 1 + 2 + 2 + 2)])
def test_attention_of_the_tpu_kernel_counts_the_blocks_that_it_meets(
    kernel, products, most, blocks
):
    """Two rows, two heads, 2,048 tokens in four blocks of 512; a window has fewer keys."""
    found = cost(
        entry(
            f"%next = s8[1,4,{most}]{{2,1,0}} parameter(0)",
            f"%mask = s8[1,4,{most}]{{2,1,0}} parameter(1)",
            "%q = bf16[2,2,2048,128]{3,2,1,0} parameter(2)",
            "%k = bf16[2,1,2048,128]{3,2,1,0} parameter(3)",
            f"ROOT %splash_mha_{kernel}_segmented.2 = bf16[2,2,2048,128]{{3,2,1,0}} "
            'custom-call(%next, %mask, %q, %k, %k), custom_call_target="tpu_custom_call"',
        )
    )
    assert found.flops == products * 2 * 128 * (2 * 2) * blocks * 512**2


def test_costs_add_up():
    one = Cost(1.0, 2.0, Counter({Collective("all-gather", "{}"): 3.0}))
    assert one + one.times(2) == Cost(3.0, 6.0, Counter({Collective("all-gather", "{}"): 9.0}))


@pytest.mark.parametrize("length", [1, 7])
def test_a_compiled_scan_counts_every_step(length):
    """[16, 32] x [32, 32] in each of the steps."""

    def steps(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    shapes = (jnp.zeros((16, 32)), jnp.zeros((length, 32, 32)))
    found = cost(jax.jit(steps).lower(*shapes).compile().as_text())
    assert found.flops == length * 2 * 16 * 32 * 32
