"""Preference-based Thompson sampling: the posterior is what it should be, and so are its draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.planning import posterior_sampling as pbts
from rlhf_jax.algos.planning import preference_lsvi as pr
from rlhf_jax.envs.linear_mdp import one_hot_features, step_blocks
from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.exact import finite_mdp

H, S, A = 2, 3, 2
M = H * S * A
DRAWS = 4_000
KNOBS = {"concentration": 0.5, "slope": 4.0, "radius": 9.0, "ridge": 2.0}


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def blocks():
    return step_blocks(one_hot_features(S, A), H)


@pytest.fixture(scope="module")
def act(blocks):
    """Plans of DRAWS draws; compiled once."""
    run = jax.jit(
        jax.vmap(lambda key, state: pbts.posterior_plan(key, state, blocks, **KNOBS), (0, None))
    )
    return lambda seed, state: run(jax.random.split(jax.random.key(seed), DRAWS), state)


def fresh() -> pbts.PosteriorState:
    sizes = {"horizon": H, "num_states": S, "num_actions": A}
    return pbts.init_posterior(room=10, num_features=M, ridge=2.0, **sizes)


def test_counts_are_those_of_the_episodes():
    states, actions = jnp.array([[0, 1, 2], [0, 1, 0]]), jnp.array([[1, 0], [1, 1]])
    counts = pbts.update_model(fresh(), states, actions).counts
    assert counts.sum() == 4
    assert counts[0, 0, 1, 1] == 2
    assert counts[1, 1, 0, 2] == counts[1, 1, 1, 0] == 1


@pytest.mark.slow
def test_the_reward_posterior_is_laplace_and_its_draws_have_that_law(act):
    """One comparison, x = 2 e_0, in the population of many draws."""
    x = jnp.zeros(M).at[0].set(2.0)
    state = fresh()
    state = state._replace(reward=pr.update_reward(state.reward, x, jnp.array(1), jnp.array(True)))
    fit = pr.fit_reward(state.reward, slope=4.0, radius=9.0, ridge=2.0, steps=6)
    plan, after = act(0, state._replace(reward=state.reward._replace(weights=fit)))
    state = jax.tree.map(lambda leaf: leaf[0], after)
    mode = float(state.reward.weights[0])
    # Stationary: ridge theta = slope x sigmoid(-slope x theta).
    np.testing.assert_allclose(2 * mode, 8 / (1 + np.exp(8 * mode)), rtol=1e-9)
    p = 1 / (1 + np.exp(-8 * mode))
    variance = 1 / (2 + 64 * p * (1 - p))
    np.testing.assert_allclose(state.reward.inverse[0, 0], variance, rtol=1e-9)
    np.testing.assert_allclose(np.diagonal(state.reward.inverse)[1:], 0.5, rtol=1e-12)
    drawn = np.asarray(plan.weights[:, 0])
    np.testing.assert_allclose(drawn[:, 0].mean(), mode, atol=4 * np.sqrt(variance / 4_000))
    np.testing.assert_allclose(drawn.var(0), np.diagonal(state.reward.inverse), rtol=0.1)
    # The query rule by its definition, over the same posterior.
    gap = np.abs((drawn[:2_000] - drawn[2_000:]) @ x).mean()
    np.testing.assert_allclose(
        pr.expected_disagreement(x, state.reward.inverse, sigma=1.0), gap, rtol=0.07
    )


@pytest.mark.slow
def test_drawn_models_have_the_dirichlet_mean(act):
    """Q - r at step 0 is P V_1; with the count at 98 on one next state it is V_1 there, nearly."""
    state = fresh()
    state = state._replace(counts=state.counts.at[0, 0, 0, 2].set(98.0))
    plan, _ = act(2, state)
    rewards = np.asarray(plan.weights[:, 0]).reshape(-1, H, S, A)
    after = np.asarray(plan.action_values)[:, 0] - rewards[:, 0]
    values = np.asarray(plan.values)[:, 1]
    mean = (0.5 * values[:, 0] + 0.5 * values[:, 1] + 98.5 * values[:, 2]) / 99.5
    np.testing.assert_allclose(np.mean(after[:, 0, 0] - mean), 0.0, atol=1e-3)
    # Unseen: the prior's mean, each next state alike.
    np.testing.assert_allclose(np.mean(after[:, 1, 1] - values.mean(-1)), 0.0, atol=0.05)


@pytest.fixture(scope="module")
def mdp() -> FiniteMDP:
    rng = np.random.default_rng(3)
    transitions, rewards = rng.dirichlet(np.ones(S), (H, S, A)), rng.random((H, S, A))
    return FiniteMDP(*map(jnp.asarray, (transitions, rewards, np.eye(S)[0])))


def test_the_plan_of_a_drawn_mdp_is_its_optimum(mdp, blocks):
    weights = mdp.rewards.ravel()
    plan = pbts._optimal(mdp.transitions, blocks @ weights, weights)
    best = finite_mdp.optimal(mdp)
    np.testing.assert_allclose(plan.values, best.values, atol=1e-12)
    np.testing.assert_allclose(plan.logps, best.logps)


@pytest.mark.slow
def test_much_data_leave_the_true_transitions(mdp, act, blocks):
    plan, _ = act(4, fresh()._replace(counts=1e7 * mdp.transitions))
    after = plan.action_values[:, 0] - jnp.einsum("sijm,nm->nsij", blocks, plan.weights[:, 0])[:, 0]
    exact = jnp.einsum("ijk,nk->nij", mdp.transitions[0], plan.values[:, 1])
    np.testing.assert_allclose(after, exact, atol=5e-3)
