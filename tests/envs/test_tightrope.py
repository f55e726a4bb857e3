"""The tightrope: its moves by hand, what slips cost, and that a world and a policy slip alike."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.tabular_mdp import FiniteMDP, check_mdp
from rlhf_jax.envs.tightrope import slipping, tightrope, with_slips
from rlhf_jax.exact import finite_mdp


def random_world(horizon: int = 3, num_states: int = 4, num_actions: int = 3) -> FiniteMDP:
    shape = (horizon, num_states, num_actions)
    drawn = np.random.default_rng(0).dirichlet(np.full(num_states, 0.5), shape)
    rewards = np.random.default_rng(1).uniform(size=shape)
    start = np.eye(num_states)[0]
    return FiniteMDP(*(jnp.asarray(x, jnp.float32) for x in (drawn, rewards, start)))


def test_one_action_leads_back_and_every_other_one_away():
    world = tightrope(jax.random.key(0), horizon=3)
    check_mdp(world.mdp)
    right = np.isfinite(np.asarray(world.expert[0]))
    assert right.sum(-1).tolist() == [1] * 9
    following = np.asarray(world.mdp.transitions[1]).argmax(-1)
    for offset in range(9):
        back, away = max(offset - 1, 0), min(offset + 1, 8)
        assert (following[offset] == np.where(right[offset], back, away)).all()
    np.testing.assert_allclose(world.mdp.rewards[2, :, 1], -np.arange(9) / 8, rtol=1e-6)


@pytest.mark.long
def test_expected_costs_by_hand():
    """Two offsets: off the rope with p = slip (A - 1) / A, whatever the offset, and 1 per step."""
    world = tightrope(jax.random.key(1), horizon=4, num_offsets=2, num_actions=4)
    cost = -finite_mdp.policy_return(with_slips(world.mdp, 0.2), world.expert)
    np.testing.assert_allclose(cost, 3 * 0.2 * 3 / 4, rtol=1e-6)
    assert finite_mdp.policy_return(world.mdp, world.expert) == 0.0
    np.testing.assert_allclose(finite_mdp.regret(world.mdp, world.expert), 0.0, atol=1e-7)


@pytest.mark.long
def test_a_slipping_world_is_a_slipping_policy():
    mdp = random_world()
    logps = jax.nn.log_softmax(3 * mdp.rewards)
    for slip in (0.3, 1.0):
        slippery = with_slips(mdp, slip)
        check_mdp(slippery)
        there = finite_mdp.policy_return(slippery, logps)
        here = finite_mdp.policy_return(mdp, slipping(logps, slip))
        np.testing.assert_allclose(there, here, rtol=1e-5)
        met = finite_mdp.occupancy(slippery, logps)
        np.testing.assert_allclose(met, finite_mdp.occupancy(mdp, slipping(logps, slip)), atol=1e-6)


def test_slips_of_a_sure_policy_are_finite_and_none_change_nothing():
    sure = jnp.log(jnp.array([[1.0, 0.0], [0.5, 0.5]]))
    np.testing.assert_allclose(jnp.exp(slipping(sure, 0.5)), [[0.75, 0.25], [0.5, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(slipping(sure, 0.0)[0], sure[0])
    mdp = tightrope(jax.random.key(0), horizon=2).mdp
    same = with_slips(mdp, 0.0)
    np.testing.assert_array_equal(same.transitions, mdp.transitions)
    np.testing.assert_array_equal(same.rewards, mdp.rewards)


def test_rewards_slip_too():
    mdp = random_world(2, 3, 2)
    paid = replace(mdp, rewards=jnp.zeros_like(mdp.rewards).at[0, 0, 0].set(1.0))
    slippery = with_slips(paid, 0.4)
    np.testing.assert_allclose(slippery.rewards[0, 0], [0.8, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    "sizes", [{"horizon": 0}, {"horizon": 2, "num_offsets": 1}, {"horizon": 2, "num_actions": 1}]
)
def test_sizes_too_small_are_named(sizes):
    with pytest.raises(ValueError, match="must be >= 1, num_offsets and num_actions >= 2"):
        tightrope(jax.random.key(0), **sizes)
