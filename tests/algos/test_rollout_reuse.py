"""Passes over one rollout, and pairs made of two answers to a prompt."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import ppo, preference
from rlhf_jax.algos.epochs import make_epochs
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.policies.tabular import tabular_policy, tabular_value

POLICY, VALUE = tabular_policy(3, 4), tabular_value(3)
OPTIMIZER = optax.sgd(0.5)


def rollout() -> tuple[ppo.PPOConfig, ppo.PPOBatch]:
    """Eight one-step answers of a uniform policy."""
    config = ppo.PPOConfig(whiten_advantages=False)
    rng = np.random.default_rng(0)
    states, actions = (jnp.asarray(rng.integers(0, n, 8)) for n in (3, 4))
    logps = jnp.full((8, 1), -jnp.log(4.0))
    scores = jnp.asarray(rng.normal(size=8), jnp.float32)
    batch = ppo.make_batch(
        bandit_trajectory(states, actions),
        scores,
        old_logps=logps,
        ref_logps=logps,
        old_values=jnp.zeros((8, 1)),
        config=config,
    )
    return config, batch


def start():
    key = jax.random.key(0)
    return init_state(ppo.ActorCritic(POLICY.init(key), VALUE.init(key)), OPTIMIZER)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.long
def test_one_pass_in_one_minibatch_is_the_update():
    config, batch = rollout()
    update = ppo.make_update(POLICY, VALUE, OPTIMIZER, config)
    once = make_epochs(update, epochs=1, minibatches=1)
    assert_same(once(start(), batch, jax.random.key(3))[0], update(start(), batch)[0])


@pytest.mark.long
def test_two_passes_are_four_updates_on_shuffled_halves():
    config, batch = rollout()
    update = ppo.make_update(POLICY, VALUE, OPTIMIZER, config)
    key = jax.random.key(3)
    got, _ = jax.jit(make_epochs(update, epochs=2, minibatches=2))(start(), batch, key)
    want = start()
    for k in jax.random.split(key, 2):
        order = jax.random.permutation(k, 8)
        for half in (order[:4], order[4:]):
            want, _ = update(want, jax.tree.map(lambda x, half=half: x[half], batch))
    assert int(got.step) == 4
    assert_same(got, want)


def test_minibatches_that_do_not_divide_are_named():
    config, batch = rollout()
    update = ppo.make_update(POLICY, VALUE, OPTIMIZER, config)
    with pytest.raises(ValueError, match="8 rows do not divide into 3 minibatches"):
        make_epochs(update, epochs=1, minibatches=3)(start(), batch, jax.random.key(0))


def test_rank_pairs_chooses_the_higher_score_and_leaves_out_what_is_undecided():
    actions = jnp.array([[0, 1], [2, 3], [1, 2], [0, 1], [0, 1], [0, 1]])
    trajectory = bandit_trajectory(jnp.zeros_like(actions), actions)
    scores = [[0.1, 0.2], [3.0, -1.0], [1.0, 1.0], [jnp.nan, 1.0], [1.0, jnp.nan], [jnp.inf, 1.0]]
    pairs = preference.rank_pairs(trajectory, jnp.array(scores))
    assert pairs.chosen.actions[:2, 0].tolist() == [1, 2]
    assert pairs.rejected.actions[:2, 0].tolist() == [0, 3]
    assert np.asarray(pairs.weights).tolist() == [1, 1, 0, 0, 0, 0]
    assert pairs.ref_chosen_logps is None


def test_rank_pairs_takes_the_best_and_the_worst_of_several_answers():
    actions = jnp.array([[0, 1, 2], [3, 1, 2], [0, 1, 2], [0, 1, 2]])
    trajectory = bandit_trajectory(jnp.zeros_like(actions), actions)
    scores = [[0.5, 0.1, 0.9], [2.0, 2.0, 1.0], [jnp.nan, 2.0, 1.0], [1.0, 1.0, jnp.nan]]
    refs = -jnp.arange(12.0).reshape(4, 3)
    pairs = preference.rank_pairs(trajectory, jnp.array(scores), refs)
    assert pairs.chosen.actions[:3, 0].tolist() == [2, 3, 1]
    assert pairs.rejected.actions[:3, 0].tolist() == [1, 2, 2]
    assert np.asarray(pairs.ref_chosen_logps)[:3].tolist() == [-2.0, -3.0, -7.0]
    assert np.asarray(pairs.ref_rejected_logps)[:3].tolist() == [-1.0, -5.0, -8.0]
    assert np.asarray(pairs.weights).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("rows", "scores", "message"),
    [
        ((4, 2), (4, 3), r"trajectory \[4, 2\] and scores \[4, 3\]"),
        ((4, 1), (4, 1), r"trajectory \[4, 1\]"),
        ((4, 2), (1, 2), r"scores \[1, 2\]"),
    ],
)
def test_rank_pairs_wants_two_or_more_answers_to_each_prompt(rows, scores, message):
    trajectory = bandit_trajectory(jnp.zeros(rows, int), jnp.zeros(rows, int))
    with pytest.raises(ValueError, match=message):
        preference.rank_pairs(trajectory, jnp.zeros(scores))


@pytest.mark.long
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_an_answer_without_a_finite_score_has_weight_zero_in_ppo(bad):
    config = ppo.PPOConfig()
    actions, zeros = jnp.arange(4), jnp.zeros((4, 1))
    arrays = {"old_logps": zeros - 1.4, "ref_logps": zeros - 1.4, "old_values": zeros}
    scores, shares = jnp.array([1.0, bad, 3.0, 2.0]), jnp.array([1.0, 1.0, 0.0, 2.0])
    trajectory = bandit_trajectory(jnp.zeros(4, int), actions)
    batch = ppo.make_batch(trajectory, scores, **arrays, config=config)
    assert np.asarray(batch.weights).tolist() == [1, 0, 1, 1]
    assert batch.advantages[:, 0].tolist() == [1, 0, 3, 2]
    weighted = ppo.make_batch(trajectory, scores, **arrays, config=config, weights=shares)
    assert np.asarray(weighted.weights).tolist() == [1, 0, 0, 2]
    state, metrics = ppo.make_update(POLICY, VALUE, OPTIMIZER, config)(start(), batch)
    assert float(metrics["loss"].weight) == 3.0
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(state.params))
