"""The law of the best of n: by hand, with ties, against draws, and iterated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.exact.best_of import best_of_law, prior_fixed_point, prior_mixture, top_mass
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.selection import best_answers

PROBS, SCORES = jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.array([1.0, 3.0, 3.0, 2.0])


def test_a_law_with_ties_by_hand():
    # F = 0.1, 0.5, 1 at scores 1, 2, 3: squares 0.01, 0.25, 1; the last 0.75 is split 2 : 3.
    np.testing.assert_allclose(best_of_law(PROBS, SCORES, n=2), [0.01, 0.3, 0.45, 0.24], rtol=1e-6)


def test_one_draw_is_the_policy_itself():
    np.testing.assert_allclose(best_of_law(PROBS, SCORES, n=1), PROBS, rtol=1e-6)


def test_it_is_the_law_of_the_selected_answer():
    draws = jax.random.categorical(jax.random.key(0), jnp.log(PROBS), shape=(400_000, 4))
    index = best_answers(SCORES[draws]).index
    chosen = jnp.take_along_axis(draws, index[:, None], axis=1)[:, 0]
    counts = np.bincount(np.asarray(chosen), minlength=4) / len(chosen)
    np.testing.assert_allclose(counts, best_of_law(PROBS, SCORES, n=4), atol=3e-3)


@pytest.mark.parametrize("n", [4, 8])
def test_rounds_of_best_of_n_are_one_round_of_a_power(n):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(1))
        probs = jax.random.dirichlet(keys[0], jnp.ones(500))
        scores = jnp.round(jax.random.normal(keys[1], (500,)), 1)  # many ties
        law = probs
        for rounds in (1, 2, 3):
            law = best_of_law(law, scores, n=n)
            np.testing.assert_allclose(law, best_of_law(probs, scores, n=n**rounds), atol=1e-12)
        assert float(law.sum()) == pytest.approx(1.0, abs=1e-12)


def test_the_divergence_without_ties_is_that_of_a_continuous_law():
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(2))
        probs = jax.random.dirichlet(keys[0], jnp.ones(4000))
        law = best_of_law(probs, jax.random.normal(keys[1], (4000,)), n=16)
        # log 16 - 1 + 1 / 16, an upper bound
        kl = float(exact_kl(jnp.log(law), jnp.log(probs)))
        assert kl <= np.log(16) - 1 + 1 / 16
        assert kl == pytest.approx(np.log(16) - 1 + 1 / 16, abs=1e-3)


def test_answers_without_mass_get_none_and_leading_axes_are_free():
    probs = jnp.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    scores = jnp.array([[3.0, 2.0, 1.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(best_of_law(probs, scores, n=5), probs, atol=1e-6)
    with pytest.raises(ValueError, match="n must be in"):
        best_of_law(probs, scores, n=0)


def test_the_minimum_with_a_prior_by_hand():
    # (0.8 + 0.5 * 0.2) / 1.5, (0.2 + 0.5 * 0.8) / 1.5
    found = prior_mixture(jnp.array([0.8, 0.2]), jnp.array([0.2, 0.8]), beta=0.5)
    np.testing.assert_allclose(found, [0.6, 0.4], rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "beta", "mass"),
    [
        (4, 1.0, 0.45705),
        (4, 2.5, 0.09348),
        (4, 3.5, 0.006496),
        (4, 6.0, 0.001992),
        (16, 0.35, 0.741),
    ],
)
def test_a_rare_best_answer_is_amplified_unless_the_prior_is_strong(n, beta, mass):
    """(1 + beta) h = 1 - (1 - h)^n + beta h_0 with h_0 = 0.001, and the fixed point itself."""
    with jax.enable_x64(True):
        found = float(top_mass(jnp.asarray(1e-3), n=n, beta=beta))
        assert found == pytest.approx(mass, rel=1e-3)
        assert (1 + beta) * found == pytest.approx(1 - (1 - found) ** n + beta * 1e-3, abs=1e-12)
        ref, scores = jnp.array([1e-3, 0.4, 0.599]), jnp.array([9.0, 1.0, 0.0])
        point = prior_fixed_point(ref, scores, n=n, beta=beta, steps=1000)
        assert float(point[0]) == pytest.approx(found, abs=1e-6)
        np.testing.assert_allclose(
            point, prior_mixture(best_of_law(point, scores, n=n), ref, beta=beta), atol=1e-6
        )


def test_without_a_prior_the_best_answer_takes_all_mass():
    assert float(top_mass(jnp.asarray(0.01), n=4, beta=0.0)) == pytest.approx(1.0)
