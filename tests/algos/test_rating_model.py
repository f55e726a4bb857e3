"""Several ratings of an answer: least squares on those that it has."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import rating_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.rating_model import RatingBatch
from rlhf_jax.algos.reward_ensemble import separate_trunks, shared_trunk
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.losses.feedback import rating_loss
from rlhf_jax.policies.tabular import tabular_reward
from rlhf_jax.types import RewardFn

TABLE = tabular_reward(1, 3)
# Answer 0 twice, 1 once, 2 once; the second rating is missing where it is NaN.
ANSWERS = jnp.array([0, 0, 1, 2])
RATINGS = jnp.array([[1.0, 4.0], [3.0, jnp.nan], [5.0, 0.0], [jnp.nan, 2.0]])
BATCH = RatingBatch(bandit_trajectory(jnp.zeros(4, int), ANSWERS), RATINGS, ~jnp.isnan(RATINGS))


def fit(heads, params, batch, *, steps, rate):
    optimizer = optax.sgd(rate)
    update = jax.jit(rating_model.make_update(heads, optimizer))
    state = init_state(params, optimizer)
    for _ in range(steps):
        state, metrics = update(state, batch)
    return state.params, metrics


def test_a_table_ends_at_the_mean_of_each_rating():
    heads = separate_trunks(TABLE, members=2)
    params, metrics = fit(heads, jnp.zeros((2, 1, 3)), BATCH, steps=200, rate=0.5)
    np.testing.assert_allclose(params, [[[2.0, 5.0, 0.0]], [[4.0, 0.0, 2.0]]], atol=1e-4)
    # Left of it: the two ratings 1 and 3 of answer 0, each 1 from their mean; six ratings in all.
    assert metrics["ratings/squared_error"].value() == pytest.approx(2 / 6, abs=1e-4)
    assert metrics["loss"].value() == pytest.approx(2 / 4, abs=1e-4)


def test_one_rating_is_the_regression_of_ratings():
    heads = separate_trunks(TABLE, members=1)
    params = jnp.array([[[0.5, -1.0, 2.0]]])
    batch = RatingBatch(BATCH.answers, jnp.ones((4, 1)), jnp.ones((4, 1), bool))
    found, _ = rating_model.make_objective(heads)(params, batch)
    expected = rating_loss(params[0, 0][ANSWERS], jnp.ones(4)).mean()
    np.testing.assert_allclose(found.value(), expected, rtol=1e-6)


def test_weights_are_repeated_rows_and_weight_zero_never_matters():
    heads = separate_trunks(TABLE, members=2)
    params = jnp.arange(6.0).reshape(2, 1, 3)
    weighted = replace(BATCH, weights=jnp.array([2.0, 0.0, 1.0, 0.0]))
    repeated = jax.tree.map(lambda x: x[np.array([0, 0, 2])], BATCH)
    objective = rating_model.make_objective(heads)
    (a, more), (b, other) = (objective(params, batch) for batch in (weighted, repeated))
    np.testing.assert_allclose(a.value(), b.value(), rtol=1e-6)
    name = "ratings/squared_error"
    np.testing.assert_allclose(more[name].value(), other[name].value(), rtol=1e-6)
    slopes = jax.grad(lambda p: objective(p, weighted)[0].value())(params)
    assert np.isfinite(slopes).all()
    np.testing.assert_array_equal(slopes[:, 0, 2], 0.0)


def test_heads_on_one_trunk_share_what_they_can():
    """A trunk that both heads read, and a number of their own."""
    reward = RewardFn(
        lambda key: {"trunk": jnp.zeros((1, 3)), "head": jnp.zeros(())},
        lambda params, x: TABLE.scores(params["trunk"], x) + params["head"],
    )
    heads = shared_trunk(reward, members=2)
    ratings = jnp.array([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [0.0, 1.0]])
    batch = RatingBatch(BATCH.answers, ratings, jnp.ones((4, 2), bool))
    params, _ = fit(heads, heads.init(jax.random.key(0)), batch, steps=400, rate=0.2)
    np.testing.assert_allclose(params["head"][1] - params["head"][0], 1.0, atol=1e-3)
    scores = heads.scores(params, batch.answers)
    np.testing.assert_allclose(scores.T, ratings, atol=1e-3)
