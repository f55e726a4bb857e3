"""Top-k, top-p and temperature on distributions that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.sampling.filters import processed_logits, top_k_logits, top_p_logits

PROBS = np.array([0.05, 0.4, 0.1, 0.25, 0.2])
LOGITS = jnp.log(jnp.asarray(PROBS, jnp.float32)) + 3.0


def probs(logits):
    return np.asarray(jax.nn.softmax(logits))


@pytest.mark.parametrize(
    ("k", "kept"),
    [(1, [1]), (2, [1, 3]), (3, [1, 3, 4]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])],
)
def test_top_k_keeps_the_k_most_probable(k, kept):
    want = np.where(np.isin(np.arange(5), kept), PROBS, 0)
    np.testing.assert_allclose(probs(top_k_logits(LOGITS, k=k)), want / want.sum(), atol=1e-6)


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (0.1, [1]),
        (0.39, [1]),
        (0.41, [1, 3]),
        (0.64, [1, 3]),
        (0.66, [1, 3, 4]),
        (0.94, [1, 2, 3, 4]),
        (0.96, [0, 1, 2, 3, 4]),
        (1.0, [0, 1, 2, 3, 4]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, kept):
    want = np.where(np.isin(np.arange(5), kept), PROBS, 0)
    np.testing.assert_allclose(probs(top_p_logits(LOGITS, p=p)), want / want.sum(), atol=1e-6)


def test_ties_at_the_border_are_all_kept():
    logits = jnp.array([0.0, 2.0, 0.0, 0.0])
    np.testing.assert_array_equal(jnp.isfinite(top_k_logits(logits, k=2)), [True] * 4)
    np.testing.assert_array_equal(jnp.isfinite(top_p_logits(logits, p=0.8)), [True] * 4)
    np.testing.assert_array_equal(
        jnp.isfinite(top_p_logits(logits, p=0.5)), [False, True, False, False]
    )


def test_temperature_then_top_k_then_top_p_of_what_is_left():
    """Squared, 0.4, 0.25, 0.2 are left as 0.16, 0.0625, 0.04; 0.16 / 0.2625 = 0.61 < 0.8."""
    got = probs(processed_logits(LOGITS, temperature=0.5, top_k=3, top_p=0.8))
    want = np.array([0, 0.16, 0, 0.0625, 0])
    np.testing.assert_allclose(got, want / want.sum(), atol=1e-6)


def test_zero_temperature_is_a_point_mass_on_the_first_best():
    logits = jnp.array([[1.0, 3.0, 3.0], [5.0, 0.0, 1.0]])
    got = probs(processed_logits(logits, temperature=0.0, top_k=0, top_p=1.0))
    np.testing.assert_array_equal(got, [[0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize("temperature", [1e-38, 1e-37, 1e-30])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (2, 0.5)])
def test_the_smallest_temperatures_are_greedy(temperature, top_k, top_p):
    """Logits of 80 divided by 1e-38 would all be infinite: token 0 with log-prob NaN."""
    logits = jnp.array([[70.0, 80.0, 75.0], [-80.0, -90.0, -jnp.inf]])
    got = probs(processed_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p))
    np.testing.assert_array_equal(got, [[0, 1, 0], [1, 0, 0]])


def test_leading_axes_are_free():
    stack = jnp.stack([LOGITS, LOGITS[::-1]]).reshape(1, 2, 5)
    got = processed_logits(stack, temperature=1.0, top_k=4, top_p=0.7)
    one = processed_logits(LOGITS, temperature=1.0, top_k=4, top_p=0.7)
    np.testing.assert_allclose(got[0, 0], one)
    np.testing.assert_allclose(got[0, 1], one[::-1])


def test_top_p_agrees_with_sorting():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (200, 17)).astype(np.float32)
    for p in (0.05, 0.5, 0.9, 0.999):
        kept = np.isfinite(np.asarray(top_p_logits(jnp.asarray(logits), p=p)))
        for row, got in zip(probs(jnp.asarray(logits)), kept, strict=True):
            order = np.argsort(-row)
            before = np.cumsum(row[order].astype(np.float64)) - row[order]
            if np.min(np.abs(before - p)) > 1e-5:  # rounding decides nearer than that
                np.testing.assert_array_equal(np.sort(order[before < p]), np.flatnonzero(got))
