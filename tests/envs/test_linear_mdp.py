"""Linear MDPs: the generator keeps its promises, and what is not linear is named."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.linear_mdp import (
    LinearMDP,
    check_linear_mdp,
    one_hot_features,
    random_linear_mdp,
    step_blocks,
    to_finite_mdp,
    trajectory_features,
)
from rlhf_jax.envs.tabular_mdp import FiniteMDP, check_mdp

SIZES = {"horizon": 6, "num_states": 30, "num_actions": 5, "num_features": 6}


@pytest.fixture(scope="module")
def given():
    """A linear MDP from NumPy, and its tables."""
    rng = np.random.default_rng(5)
    features = rng.dirichlet(np.full(6, 0.3), (30, 5))
    measures, weights = rng.dirichlet(np.full(30, 0.3), (6, 6)), rng.random((6, 6))
    linear = LinearMDP(features, measures, weights, np.eye(30)[0])
    with jax.enable_x64(True):
        finite = to_finite_mdp(jax.tree.map(jnp.asarray, linear))
    return linear, jax.tree.map(np.asarray, finite)


@pytest.fixture(scope="module")
def worlds():
    """Three linear MDPs in float64, and their tables."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        linear = jax.jit(jax.vmap(lambda key: random_linear_mdp(key, **SIZES)))(keys)
        finite = jax.vmap(to_finite_mdp)(linear)
        return jax.tree.map(np.asarray, linear), jax.tree.map(np.asarray, finite)


@pytest.mark.slow
def test_generated_mdps_satisfy_every_assumption(worlds):
    linear, finite = worlds
    check_mdp(finite)
    assert finite.transitions.min() >= 0
    np.testing.assert_allclose(finite.transitions.sum(-1), 1.0, atol=1e-12)
    assert finite.rewards.min() >= 0
    assert finite.rewards.max() <= 1
    assert np.linalg.norm(linear.features, axis=-1).max() <= 1 + 1e-12
    assert np.linalg.norm(linear.reward_weights, axis=-1).max() <= np.sqrt(6)
    assert np.linalg.norm(np.abs(linear.measures).sum(-1), axis=-1).max() <= np.sqrt(6) + 1e-12
    tables = finite.transitions.reshape(3, 6, 150, 30)
    assert np.linalg.matrix_rank(tables, tol=1e-10).max() <= 6


@pytest.mark.slow
def test_every_factor_has_an_anchor(worlds):
    features = worlds[0].features.reshape(3, 150, 6)
    for factor in np.eye(6):
        assert ((features == factor).all(-1).sum(-1) >= 1).all()
    # 5% of 150 pairs, rounded to the even number.
    assert ((features == 1).any(-1).sum(-1) == 8).all()


def test_check_finds_the_linear_form(given):
    linear, finite = given
    with jax.enable_x64(True):
        found = check_linear_mdp(finite, jnp.asarray(linear.features), tolerance=1e-12)
    np.testing.assert_allclose(found.measures, linear.measures, atol=1e-12)
    np.testing.assert_allclose(found.reward_weights, linear.reward_weights, atol=1e-12)


def test_any_table_is_linear_in_one_hot_features():
    rng = np.random.default_rng(1)
    transitions, rewards = rng.dirichlet(np.ones(3), (2, 3, 2)), rng.random((2, 3, 2))
    mdp = FiniteMDP(transitions, rewards, np.eye(3)[0])
    found = check_linear_mdp(mdp, one_hot_features(3, 2))
    np.testing.assert_allclose(found.measures.reshape(2, 3, 2, 3), mdp.transitions, atol=1e-6)
    np.testing.assert_allclose(to_finite_mdp(found).rewards, mdp.rewards, atol=1e-6)


@pytest.mark.parametrize("what", ["transition", "reward"])
def test_what_is_not_linear_is_named_with_its_place(given, what):
    """A shift of 0.5 in one anchor-free entry stays the largest residual of the fit."""
    linear, finite = given
    state, action = np.argwhere(linear.features.max(-1) < 0.5)[0]
    transitions, rewards = finite.transitions.copy(), finite.rewards.copy()
    if what == "transition":
        transitions[4, state, action, 7] += 0.5
    else:
        rewards[4, state, action] += 0.5
    broken = dataclasses.replace(finite, transitions=transitions, rewards=rewards)
    named = {"transition": "probability of next state 7", "reward": "reward"}[what]
    message = f"the {named} at step 4, state {state}, action {action} is off by 0.4"
    with pytest.raises(ValueError, match=message):
        check_linear_mdp(broken, jnp.asarray(linear.features, jnp.float32), tolerance=1e-4)


def test_shapes_that_do_not_fit_are_named(given):
    with pytest.raises(ValueError, match=r"got \(6, 30, 5, 30\) and \(5, 30, 150\)"):
        check_linear_mdp(given[1], one_hot_features(5, 30))
    with pytest.raises(ValueError, match=r"states times actions >= features; got 2, 2, 2, 5"):
        random_linear_mdp(jax.random.key(0), horizon=2, num_states=2, num_actions=2, num_features=5)


@pytest.mark.long
def test_returns_are_linear_in_trajectory_features(given):
    linear, finite = given
    rng = np.random.default_rng(0)
    states, actions = rng.integers(30, size=(4, 6)), rng.integers(5, size=(4, 6))
    returns = finite.rewards[np.arange(6), states, actions].sum(-1)
    features = jnp.asarray(linear.features, jnp.float32)
    blocks = trajectory_features(
        step_blocks(features, 6), jnp.asarray(states), jnp.asarray(actions)
    )
    assert blocks.shape == (4, 36)
    np.testing.assert_allclose(blocks @ linear.reward_weights.ravel(), returns, rtol=1e-5)
    shared = jnp.broadcast_to(features, (6, *features.shape))
    summed = trajectory_features(shared, jnp.asarray(states), jnp.asarray(actions))
    np.testing.assert_allclose(summed, blocks.reshape(4, 6, 6).sum(1), rtol=1e-5)
