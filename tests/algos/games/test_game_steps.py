"""Steps and weights that every method of games checks before it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.games.steps import at_step, check_step, check_weights, decaying_steps


@pytest.mark.parametrize(
    ("eta", "beta", "message"),
    [
        (-1.0, 0.1, r"eta must be in \[0, inf\)"),
        (1.0, -0.1, r"beta must be in \[0, inf\)"),
        (4.0, 0.3, r"eta \* beta must be in \[0, 1\.000001\], got 1\.2"),
        (lambda step: 4.0 - step, 0.3, r"eta \* beta must be in"),
    ],
)
def test_a_step_that_overshoots_the_reference_is_refused(eta, beta, message):
    with pytest.raises(ValueError, match=message):
        check_step(eta, beta)


def test_the_largest_step_may_exceed_1_by_the_rounding_of_single_precision():
    check_step(jnp.float32(1 / 0.3), jnp.float32(0.3))
    check_step(decaying_steps(0.3), 0.3)  # eta_0 beta = 1


def test_a_schedule_gives_its_number_and_a_number_itself():
    # 2 / (beta (t + 2)) with beta = 1/2 at t = 6: 2 / 4
    assert at_step(decaying_steps(0.5), 6) == 0.5
    assert at_step(0.25, 6) == 0.25


@pytest.mark.parametrize("weights", [(), (0.5, 0.4), (1.5, -0.5)])
def test_weights_that_are_no_distribution_are_refused(weights):
    with pytest.raises(ValueError, match="history_weights must be >= 0 and sum to 1"):
        check_weights(weights)


def test_weights_become_an_array_traced_or_not():
    np.testing.assert_array_equal(check_weights((0.75, 0.25)), [0.75, 0.25])
    np.testing.assert_array_equal(jax.jit(check_weights)(jnp.array([2.0, 3.0])), [2.0, 3.0])
