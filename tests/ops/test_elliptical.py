"""Elliptical norms and rank-one updates against dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops.elliptical import (
    elliptical_norms,
    initial_inverse,
    log_det_bound,
    log_det_increase,
    rank_one_inverse,
)

D, N, RIDGE = 5, 40, 0.7


@pytest.fixture(scope="module")
def run() -> dict:
    """Vectors and weights, and the inverse after each of them."""
    rng = np.random.default_rng(0)
    vectors, weights = rng.normal(size=(N, D)), rng.uniform(0, 2, N)

    def step(inverse, now):
        grown = log_det_increase(inverse, now[0], weight=now[1])
        inverse = rank_one_inverse(inverse, now[0], weight=now[1])
        return inverse, (inverse, grown)

    with jax.enable_x64(True):
        given = jnp.asarray(vectors), jnp.asarray(weights)
        _, (inverses, grown) = jax.jit(lambda start: jax.lax.scan(step, start, given))(
            initial_inverse(D, ridge=RIDGE)
        )
    outer = weights[:, None, None] * vectors[:, :, None] * vectors[:, None, :]
    designs = RIDGE * np.eye(D) + np.cumsum(outer, 0)
    return {"inverses": np.asarray(inverses), "grown": np.asarray(grown), "designs": designs}


def test_updates_are_the_dense_inverse_and_stay_symmetric(run):
    np.testing.assert_allclose(run["inverses"], np.linalg.inv(run["designs"]), atol=1e-12)
    np.testing.assert_array_equal(run["inverses"], np.swapaxes(run["inverses"], -1, -2))


def test_log_determinants_telescope(run):
    dense = np.linalg.slogdet(run["designs"])[1] - D * np.log(RIDGE)
    np.testing.assert_allclose(np.cumsum(run["grown"]), dense, rtol=1e-12)


def test_norms_by_hand_and_against_a_solve(run):
    inverse = jnp.diag(jnp.array([0.25, 1.0]))
    vectors = jnp.array([[2.0, 0.0], [0.0, 3.0], [2.0, 3.0], [0.0, 0.0]])
    norms = elliptical_norms(vectors, inverse)
    np.testing.assert_allclose(norms, [1.0, 3.0, np.sqrt(10.0), 0.0], rtol=1e-6)
    x = np.random.default_rng(1).normal(size=(3, D))
    solved = np.linalg.solve(run["designs"][-1], x.T).T
    with jax.enable_x64(True):
        norms = elliptical_norms(jnp.asarray(x), jnp.asarray(run["inverses"][-1]))
    np.testing.assert_allclose(norms, np.sqrt(np.sum(x * solved, -1)), rtol=1e-12)


def test_weight_zero_masks_and_leading_axes_are_a_loop():
    rng = np.random.default_rng(2)
    vectors = jnp.asarray(rng.normal(size=(3, D)), jnp.float32)
    inverses = jnp.stack([initial_inverse(D, ridge=r) for r in (0.5, 1.0, 2.0)])
    weights = jnp.array([0.0, 1.0, 3.0])
    batched = rank_one_inverse(inverses, vectors, weight=weights)
    np.testing.assert_array_equal(batched[0], inverses[0])
    for i in range(3):
        one = rank_one_inverse(inverses[i], vectors[i], weight=weights[i])
        np.testing.assert_allclose(batched[i], one, rtol=1e-6)


def test_the_potential_stays_below_its_bound_and_meets_it_on_an_even_design(run):
    # The vectors weighted in: w x x^T is that of sqrt(w) x, whose squared lengths sum to the trace.
    lengths = np.trace(run["designs"][-1]) - D * RIDGE
    bound = log_det_bound(1, num_features=D, length=np.sqrt(lengths).item(), ridge=RIDGE)
    potential = run["grown"].sum()
    assert 0.8 * float(bound) < potential < float(bound)
    # One vector of length 2 along each axis: A = (ridge + 4) I, the bound's own case.
    exact = D * np.log((RIDGE + 4.0) / RIDGE)
    even = log_det_bound(D, num_features=D, length=2.0, ridge=RIDGE)
    np.testing.assert_allclose(even, exact, rtol=1e-6)
