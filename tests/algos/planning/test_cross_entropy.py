"""The cross-entropy method: known optima, constraints, and nothing allowed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.planning.cross_entropy import SearchConfig, cross_entropy, search_noise

TARGET = jnp.array([[0.5, -1.0], [2.0, 0.25]])
CONFIG = SearchConfig(horizon=2, candidates=256, elites=32, sweeps=12)
NOISE = search_noise(jax.random.key(0), size=2, config=CONFIG)


def near(actions, least=-jnp.inf):
    """- squared distance to TARGET, where the first number is at least `least`."""
    scores = -jnp.sum((actions - TARGET) ** 2, axis=(-2, -1))
    return jnp.where(actions[:, 0, 0] >= least, scores, -jnp.inf)


def search(score, limit=1.5):
    return jax.jit(partial(cross_entropy, score=score, limit=limit, config=CONFIG))(NOISE)


def test_it_finds_the_nearest_point_of_the_box():
    best = search(near)
    np.testing.assert_allclose(best.actions, jnp.clip(TARGET, -1.5, 1.5), atol=0.05)
    np.testing.assert_allclose(best.score, near(best.actions[None])[0], rtol=1e-5)


def test_what_is_not_allowed_is_never_chosen():
    best = search(partial(near, least=1.0))
    assert float(best.actions[0, 0]) >= 1.0
    np.testing.assert_allclose(best.actions[0], [1.0, -1.0], atol=0.1)


def test_where_nothing_is_allowed_the_score_says_so():
    best = search(lambda actions: jnp.full(len(actions), -jnp.inf))
    assert float(best.score) == -np.inf
    assert np.isfinite(best.actions).all()


@pytest.mark.parametrize("change", [{"elites": 65}, {"sweeps": 0}, {"spread": 0.0}])
def test_searches_that_cannot_be_are_refused(change):
    (name,) = change
    with pytest.raises(ValueError, match=name):
        SearchConfig(candidates=64, **{"elites": 8} | change)
