"""MaxEnt inverse RL: the gradient it follows, features it matches, and the limits it shares."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.planning.inverse_rl import InverseRL, max_ent_irl, mean_features
from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.envs.tightrope import tightrope, with_slips
from rlhf_jax.exact import finite_mdp
from rlhf_jax.exact.bandit import regularised_optimum

HORIZON, STATES, ACTIONS = 4, 5, 3


def world(key: int = 0) -> FiniteMDP:
    logits = 2 * jax.random.normal(jax.random.key(key), (HORIZON, STATES, ACTIONS, STATES))
    rewards = jnp.zeros((HORIZON, STATES, ACTIONS))
    return FiniteMDP(jax.nn.softmax(logits), rewards, jnp.eye(STATES)[0])


def paying(mdp: FiniteMDP, rewards) -> FiniteMDP:
    return replace(mdp, rewards=jnp.broadcast_to(rewards, mdp.rewards.shape))


def method(mdp: FiniteMDP, features, ref, *, beta=0.5, eta=1.0, clip=10.0) -> InverseRL:
    return max_ent_irl(
        features,
        lambda rewards: finite_mdp.soft_optimal(paying(mdp, rewards), ref, beta=beta).logps,
        partial(finite_mdp.occupancy, mdp),
        eta=eta,
        clip=clip,
    )


def uniform(mdp: FiniteMDP):
    return jnp.full(mdp.rewards.shape, -np.log(mdp.rewards.shape[-1]))


def state_features(num_states: int, num_actions: int):
    return jnp.broadcast_to(jnp.eye(num_states)[:, None], (num_states, num_actions, num_states))


def learn(irl: InverseRL, expert, updates: int):
    def step(state, _):
        return irl.update(state, expert)

    return jax.lax.scan(step, irl.init(), None, length=updates)


def test_mean_features_by_hand():
    """Half the time in state 0, and there action 1 three times in four."""
    occupancy = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    logps = jnp.log(jnp.broadcast_to(jnp.array([[0.25, 0.75], [1.0, 0.0]]), (3, 2, 2)))
    features = jnp.eye(4).reshape(2, 2, 4)
    found = mean_features(occupancy, logps, features)
    np.testing.assert_allclose(found, [0.125, 0.375, 0.5, 0.0], rtol=1e-6)


@pytest.mark.long
def test_the_step_is_the_gradient_of_the_dual():
    """d/dw [ <w, mu_E> - V_soft(s_1) / H ] = mu_E - mu_pi, whatever the dynamics."""
    mdp = world()
    features = jax.random.normal(jax.random.key(1), (STATES, ACTIONS, 2))
    expert, weights = jnp.array([0.3, -0.2]), jnp.array([0.5, 1.0])
    irl = method(mdp, features, uniform(mdp), eta=0.1)

    def dual(weights):
        rewards = paying(mdp, features @ weights)
        solution = finite_mdp.soft_optimal(rewards, uniform(mdp), beta=0.5)
        return weights @ expert - mdp.initial @ solution.values[0] / HORIZON

    state = irl.init()._replace(weights=weights)
    new, _ = jax.jit(irl.update)(state, expert)
    slope = jax.jit(jax.grad(dual))(weights)
    np.testing.assert_allclose((new.weights - weights) / 0.1, slope, rtol=2e-4)
    assert new.step == 1


@pytest.mark.long
def test_it_matches_the_occupancy_of_a_soft_expert_under_a_reference():
    """Whose weights are within reach: the gap goes to zero and the policies agree."""
    mdp = world(2)
    ref = jax.nn.log_softmax(jax.random.normal(jax.random.key(3), mdp.rewards.shape))
    features = jax.random.uniform(jax.random.key(4), (STATES, ACTIONS, 3))
    irl = method(mdp, features, ref, eta=3.0)
    expert = irl.plan(irl.init()._replace(weights=jnp.array([1.0, -0.5, 0.3])))
    met = mean_features(finite_mdp.occupancy(mdp, expert), expert, features)
    state, metrics = jax.jit(partial(learn, irl, updates=400))(met)
    gaps = np.asarray(metrics["irl/gap"])
    assert gaps[-1] < 1e-4 < 1e-2 < gaps[0]
    np.testing.assert_allclose(jnp.exp(irl.plan(state)), jnp.exp(expert), atol=5e-3)


@pytest.mark.long
def test_one_step_is_a_bandit():
    """H = 1: the plan is ref exp(<w, features> / beta), the optimum of RLHF's last step."""
    mdp = replace(world(), transitions=world().transitions[:1], rewards=world().rewards[:1])
    ref = jax.nn.log_softmax(jax.random.normal(jax.random.key(5), mdp.rewards.shape))
    irl = method(mdp, jnp.eye(STATES * ACTIONS).reshape(STATES, ACTIONS, -1), ref, beta=0.3)
    weights = jax.random.normal(jax.random.key(6), (STATES * ACTIONS,))
    plan = irl.plan(irl.init()._replace(weights=weights))
    rewards = weights.reshape(STATES, ACTIONS)
    np.testing.assert_allclose(plan[0], regularised_optimum(rewards, ref[0], beta=0.3), rtol=2e-5)


@pytest.mark.long
def test_a_uniform_reference_is_max_ent_and_the_clone_is_rlhf():
    """Uniform and zero references plan alike; without a reward the plan is the clone."""
    mdp = world()
    features = state_features(STATES, ACTIONS)
    weights = jnp.linspace(-1.0, 1.0, STATES)
    plans = [
        (irl := method(mdp, features, ref)).plan(irl.init()._replace(weights=weights))
        for ref in (uniform(mdp), jnp.zeros_like(mdp.rewards))
    ]
    np.testing.assert_allclose(plans[0], plans[1], atol=1e-5)
    clone = jax.nn.log_softmax(jax.random.normal(jax.random.key(7), mdp.rewards.shape))
    tuned = method(mdp, features, clone)
    np.testing.assert_allclose(tuned.plan(tuned.init()), clone, atol=1e-5)


@pytest.mark.slow
def test_a_sure_expert_is_met_at_the_clip_and_its_way_back_is_found():
    """On the rope only offset 0 is ever seen; the plan brings every offset back."""
    rope = tightrope(jax.random.key(0), horizon=10, num_offsets=4)
    features = state_features(4, 4)
    irl = method(rope.mdp, features, uniform(rope.mdp), beta=0.1, clip=3.0)
    met = mean_features(finite_mdp.occupancy(rope.mdp, rope.expert), rope.expert, features)
    np.testing.assert_array_equal(met, [1.0, 0.0, 0.0, 0.0])
    state, metrics = jax.jit(partial(learn, irl, updates=100))(met)
    assert jnp.max(jnp.abs(state.weights)) <= 3.0
    assert metrics["irl/gap"][-1] < 0.01
    slippery = with_slips(rope.mdp, 0.1)
    costs = [-finite_mdp.policy_return(slippery, each) for each in (irl.plan(state), rope.expert)]
    assert costs[0] < 1.05 * costs[1]


@pytest.mark.long
def test_padding_the_horizon_changes_nothing():
    """Rewards and occupancies cut off after two steps are those of a horizon of two."""
    mdp = world(3)
    short = replace(mdp, transitions=mdp.transitions[:2], rewards=mdp.rewards[:2])
    features = jax.random.normal(jax.random.key(8), (STATES, ACTIONS, 2))
    counted = (jnp.arange(HORIZON) < 2)[:, None]
    padded = max_ent_irl(
        features,
        lambda rewards: (
            finite_mdp.soft_optimal(
                paying(mdp, jnp.where(counted[..., None], rewards, 0.0)), uniform(mdp), beta=0.5
            ).logps
        ),
        lambda logps: jnp.where(counted, finite_mdp.occupancy(mdp, logps), 0.0),
        eta=1.0,
        clip=10.0,
    )
    expert = jnp.array([0.1, -0.1])
    both = [
        learn(irl, expert, 3)[0].weights
        for irl in (padded, method(short, features, uniform(short)))
    ]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-4)


@pytest.mark.long
def test_compiled_and_batched_updates_are_the_plain_ones():
    mdp = world()
    irl = method(mdp, state_features(STATES, ACTIONS), uniform(mdp))
    experts = jax.nn.softmax(jax.random.normal(jax.random.key(9), (3, STATES)))
    plain = irl.update(irl.init(), experts[0])[0].weights
    compiled = jax.jit(irl.update)
    one_by_one = [compiled(irl.init(), expert)[0].weights for expert in experts]
    np.testing.assert_allclose(one_by_one[0], plain, atol=1e-6)
    batched = jax.jit(jax.vmap(lambda expert: irl.update(irl.init(), expert)[0].weights))(experts)
    np.testing.assert_allclose(batched, jnp.stack(one_by_one), atol=1e-6)
