"""What is refused, by which name, and what passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.checks import check_entries, check_fields, check_ids, check_mask, check_range

SCALARS = [
    ("(0, inf)", (1e-9, 0.1, 3, np.float32(2.0)), (0, -1, float("nan"), float("inf"))),
    ("(0, inf]", (0.1, float("inf")), (0.0, float("nan"))),
    ("[0, 1/2)", (0, 0.0, 0.4999), (0.5, 0.6, -1e-9)),
    ("(0, 1)", (0.5,), (0, 1, 0.0, 1.0)),
    ("[1, 3]", (1, 3, np.int32(2)), (0, 4, 3.1)),
    ("(-inf, inf)", (-5.0, 0), (float("inf"), -float("inf"), float("nan"))),
]


@pytest.mark.parametrize(("interval", "inside", "outside"), SCALARS)
def test_a_number_is_in_its_interval_or_refused_by_name(interval, inside, outside):
    for number in inside:
        check_range(interval, beta=number)
        check_range(interval, beta=jnp.asarray(number))
    for number in outside:
        for form in (number, np.asarray(number), jnp.asarray(number)):
            with pytest.raises(ValueError, match=r"beta must be in .*, got "):
                check_range(interval, beta=form)


def test_only_one_number_is_a_number():
    for wrong in ([2, 1], np.ones(2), jnp.ones((1, 1))):
        with pytest.raises(ValueError, match="beta must be one number"):
            check_range("(0, inf)", beta=wrong)
    for wrong in (None, True, "0.1"):
        with pytest.raises(ValueError, match="beta must be a number"):
            check_range("(0, inf)", beta=wrong)


def test_the_ends_are_compared_as_jax_holds_them():
    """0.1 in float32 is 0.100000001; 1e39 is infinity there, and a number in float64."""
    check_range("[0, 0.1]", rate=jnp.float32(0.1), other=0.1, half=jnp.bfloat16(0.05))
    check_range("(0, inf)", rate=1e-300)
    with pytest.raises(ValueError, match=r"rate must be in \(0, inf\), got 1e\+39"):
        check_range("(0, inf)", rate=1e39)
    with jax.enable_x64(True):
        check_range("(0, inf)", rate=1e39)


def test_traced_numbers_pass_and_traced_shapes_do_not():
    def scaled(beta):
        check_range("(0, inf)", beta=beta)
        return 2.0 * beta

    assert jax.jit(scaled)(-1.0) == -2.0
    np.testing.assert_array_equal(jax.vmap(scaled)(jnp.array([-1.0, 1.0])), [-2.0, 2.0])
    with pytest.raises(ValueError, match="beta must be one number"):
        jax.jit(scaled)(jnp.ones(2))
    # A number that a traced function closes over is known.
    known = jnp.float32(-1.0)
    with pytest.raises(ValueError, match="beta must be in"):
        jax.jit(lambda x: x + scaled(known))(1.0)


def test_checks_leave_nothing_in_compiled_code():
    def checked(x, mask, ids):
        check_range("(0, inf)", x=x)
        check_mask(mask=mask)
        check_ids(ids=ids)
        return x

    assert not jax.make_jaxpr(checked)(1.0, jnp.ones(2, bool), jnp.zeros(2, int)).eqns


def test_the_first_wrong_entry_is_named():
    check_entries("[0, inf)", weights=np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"weights must be in \[0, inf\), got -3.0 at \[1, 0\]"):
        check_entries("[0, inf)", weights=jnp.array([[0.0, 1.0], [-3.0, -4.0]]))
    with pytest.raises(ValueError, match=r"betas must be in \(0, inf\), got nan at \[1\]"):
        check_entries("(0, inf)", betas=(0.1, float("nan")))


def test_fields_are_refused_by_name():
    class Record:
        steps, betas, sizes = 0, (0.5, -1.0), ()

    with pytest.raises(ValueError, match=r"steps must be in \[1, inf\), got 0"):
        check_fields(Record, "[1, inf)", "steps")
    with pytest.raises(ValueError, match=r"betas must be in \[0, 1\], got -1.0 at \[1\]"):
        check_fields(Record, "[0, 1]", "betas")
    with pytest.raises(ValueError, match=r"sizes must have a number in \[0, 1\], got \(\)"):
        check_fields(Record, "[0, 1]", "sizes")


def test_masks_are_bool_and_ids_are_integers():
    """Traced or not: a float mask counts 0.5 as 1, an int one counts a label of -100."""
    check_mask(mask=np.ones(2, bool))
    check_ids(actions=np.zeros(2, np.uint8))
    for run in (lambda f, x: f(x), jax.eval_shape):
        with pytest.raises(TypeError, match=r"mask must be bool.* got int32"):
            run(lambda x: check_mask(mask=x), jnp.array([3, -100]))
        with pytest.raises(TypeError, match=r"mask must be bool.* got float32"):
            run(lambda x: check_mask(mask=x), jnp.array([1.0, 0.5]))
        with pytest.raises(TypeError, match="actions must be integers, got float32"):
            run(lambda x: check_ids(actions=x), jnp.zeros(2))
        with pytest.raises(TypeError, match="actions must be integers, got bool"):
            run(lambda x: check_ids(actions=x), jnp.zeros(2, bool))
