"""Programs as text: computations, types, trip counts of loops."""

import pytest

from rlhf_jax.plan.hlo import array_types, called, numbers, parse_module, trip_count

LOOP = """\
HloModule jit_step, is_scheduled=true

%body (state: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %state = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)S(1)}) parameter(0)
  %two = s32[] constant(2)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %next = s32[] add(%i, %two)
  %x = f32[4,8]{1,0} get-tuple-element(%state), index=1
  ROOT %out = (s32[], /*index=1*/f32[4,8]{1,0}) tuple(%next, %x)
}

%test (state.1: (s32[], f32[4,8])) -> pred[] {
  %state.1 = (s32[], f32[4,8]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %bound = s32[] constant(9)
  ROOT %less = pred[] compare(%i.1, %bound), direction=LT
}

ENTRY %main (x.1: f32[4,8]) -> (s32[], f32[4,8]) {
  %x.1 = f32[4,8]{1,0} parameter(0)
  %one = s32[] constant(1)
  %first = (s32[], f32[4,8]{1,0}) tuple(%one, %x.1)
  ROOT %loop = (s32[], f32[4,8]{1,0}) while(%first), condition=%test, body=%body
}
"""


def test_instructions_are_read_with_their_types_and_operands():
    module = parse_module(LOOP)
    assert module.entry == "main"
    assert set(module.computations) == {"body", "test", "main"}
    out = module.computations["body"].root
    assert (out.opcode, out.operands) == ("tuple", ("next", "x"))
    assert [t.dims for t in out.types] == [(), (4, 8)]
    assert module.computations["body"].parameters == {0: "state"}
    loop = module.computations["main"].root
    assert (called(loop, "body"), called(loop, "condition"), called(loop, "calls")) == (
        "body",
        "test",
        None,
    )


def test_a_type_says_bytes_and_whether_it_is_in_hbm():
    one, two = array_types("(bf16[8,512]{1,0:T(8,128)(2,1)}, f32[3]{0:T(128)S(1)})")
    assert (one.dims, one.nbytes, one.in_hbm) == ((8, 512), 8192, True)
    assert (two.nbytes, two.in_hbm) == (12, False)
    assert array_types("s4[6]")[0].nbytes == 3
    assert array_types("token[]")[0].nbytes == 0


def test_a_loop_runs_from_its_start_to_its_bound_in_its_steps():
    """i = 1, 3, 5, 7 of i < 9 in steps of 2: four runs."""
    module = parse_module(LOOP)
    here = module.computations["main"]
    assert trip_count(module, here, here.root) == 4
    # without the start and the step that are seen: 0, 1, ..., 8
    plain = parse_module(
        LOOP.replace("constant(1)", "constant(0)").replace("constant(2)", "copy(%i)")
    )
    here = plain.computations["main"]
    assert trip_count(plain, here, here.root) == 9


def test_a_trip_count_that_the_compiler_noted_is_taken():
    noted = LOOP.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"12"}}')
    module = parse_module(noted)
    here = module.computations["main"]
    assert trip_count(module, here, here.root) == 12


def test_a_bound_within_a_fused_comparison_is_found():
    fused = LOOP.replace(
        "%test (state.1",
        """\
%fused (i.2: s32[]) -> pred[] {
  %i.2 = s32[] parameter(0)
  %bound.1 = s32[] constant(9)
  ROOT %less.1 = pred[] compare(%i.2, %bound.1), direction=LT
}

%test (state.1""",
    ).replace(
        "ROOT %less = pred[] compare(%i.1, %bound), direction=LT",
        "ROOT %less = pred[] fusion(%i.1), kind=kLoop, calls=%fused",
    )
    module = parse_module(fused)
    here = module.computations["main"]
    assert trip_count(module, here, here.root) == 4


def test_lists_of_numbers_are_read_from_attributes():
    text = LOOP.replace("condition=%test,", "condition=%test, dims={1,3}, none={},")
    loop = parse_module(text).computations["main"].root
    assert (numbers(loop, "dims"), numbers(loop, "none"), numbers(loop, "other")) == (
        (1, 3),
        (),
        (),
    )


def test_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        parse_module("HloModule empty")
