"""Passes over one rollout, and pairs made of two answers to a prompt."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import ppo, preference
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


def test_one_pass_in_one_minibatch_is_the_update():
    config, batch = rollout()
    update = ppo.make_update(POLICY, VALUE, OPTIMIZER, config)
    once = ppo.make_epochs(update, epochs=1, minibatches=1)
    assert_same(once(start(), batch, jax.random.key(3))[0], update(start(), batch)[0])


def test_two_passes_are_four_updates_on_shuffled_halves():
    config, batch = rollout()
    update = ppo.make_update(POLICY, VALUE, OPTIMIZER, config)
    key = jax.random.key(3)
    got, _ = jax.jit(ppo.make_epochs(update, epochs=2, minibatches=2))(start(), batch, key)
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
    with pytest.raises(ValueError, match="8 answers do not divide into 3 minibatches"):
        ppo.make_epochs(update, epochs=1, minibatches=3)(start(), batch, jax.random.key(0))


def test_rank_pairs_chooses_the_higher_score_and_the_first_at_a_tie():
    actions = jnp.array([[0, 1], [2, 3], [1, 2]])
    trajectory = bandit_trajectory(jnp.zeros_like(actions), actions)
    pairs = preference.rank_pairs(trajectory, jnp.array([[0.1, 0.2], [3.0, -1.0], [1.0, 1.0]]))
    assert pairs.chosen.actions[:, 0].tolist() == [1, 2, 1]
    assert pairs.rejected.actions[:, 0].tolist() == [0, 3, 2]
    assert pairs.ref_chosen_logps is None
