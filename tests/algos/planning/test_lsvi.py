"""Least-squares value iteration: its limits are methods we know, and its bounds are bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.planning import lsvi
from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.exact import finite_mdp

H, S, A, D = 3, 4, 2, 8
ONE_HOT = jnp.asarray(np.eye(S * A).reshape(S, A, D), jnp.float32)
# Once for each shape: a test that calls them eagerly compiles its scan again.
plan_of = jax.jit(lsvi.bonus_plan)
soft_plan_of = jax.jit(lsvi.soft_plan)
drawn_plan_of = jax.jit(lsvi.randomised_plan)
optimal, evaluate = jax.jit(finite_mdp.optimal), jax.jit(finite_mdp.evaluate)
soft_optimal = jax.jit(finite_mdp.soft_optimal)


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def table() -> FiniteMDP:
    rng = np.random.default_rng(7)
    rewards = rng.random((H, S, A)) * (rng.random((H, S, A)) < 0.5)
    transitions = rng.dirichlet(np.full(S, 0.3), (H, S, A))
    return FiniteMDP(*map(jnp.asarray, (transitions, rewards, np.eye(S)[0])))


@pytest.fixture(scope="module")
def linear() -> tuple[FiniteMDP, jax.Array]:
    """A linear MDP of the same sizes, rank 4, and its features, padded to as many as one-hot."""
    rng = np.random.default_rng(8)
    features = np.pad(rng.dirichlet(np.full(4, 0.5), (S, A)), [(0, 0), (0, 0), (0, 4)])
    measures = np.pad(rng.dirichlet(np.full(S, 0.5), (H, 4)), [(0, 0), (0, 4), (0, 0)])
    transitions = np.einsum("ijd,hdk->hijk", features, measures)
    mdp = FiniteMDP(*map(jnp.asarray, (transitions, rng.random((H, S, A)), np.eye(S)[0])))
    return mdp, jnp.asarray(features)


@pytest.fixture(scope="module")
def episodes(table) -> tuple[np.ndarray, np.ndarray]:
    """States [30, H + 1] and actions [30, H] of a uniform policy."""
    rng = np.random.default_rng(0)
    probs, states, actions = np.asarray(table.transitions), [np.zeros(30, int)], []
    for h in range(H):
        actions.append(rng.integers(A, size=30))
        rows = probs[h, states[-1], actions[-1]]
        states.append((rows.cumsum(-1) < rng.random((30, 1))).sum(-1))
    return np.stack(states, 1), np.stack(actions, 1)


@pytest.fixture(scope="module")
def counts(episodes) -> np.ndarray:
    states, actions = episodes
    counts = np.zeros((H, S, A, S))
    for h in range(H):
        np.add.at(counts[h], (states[:, h], actions[:, h], states[:, h + 1]), 1)
    return counts


@pytest.fixture(scope="module")
def state(episodes) -> lsvi.LSVIState:
    """After the 30 episodes, one-hot features, ridge 1."""
    states, actions = episodes
    start = lsvi.init_lsvi(horizon=H, num_features=S * A, num_states=S)
    update = jax.jit(lsvi.update_lsvi)
    first = update(start, ONE_HOT[states[:15, :-1], actions[:15]], jnp.asarray(states[:15, 1:]))
    return update(first, ONE_HOT[states[15:, :-1], actions[15:]], jnp.asarray(states[15:, 1:]))


def test_episodes_one_by_one_and_counts_at_once_are_the_same_state(state, counts):
    at_once = lsvi.from_counts(ONE_HOT, jnp.asarray(counts), ridge=1.0)
    np.testing.assert_allclose(state.inverse, at_once.inverse, atol=1e-14)
    np.testing.assert_allclose(state.moments, at_once.moments, atol=1e-14)


def test_one_hot_with_ridge_one_is_the_empirical_model_with_n_plus_one(state, counts, table):
    """Its rows sum to n / (n + 1): what is unseen is worth nothing."""
    model = FiniteMDP(
        jnp.asarray(counts / (counts.sum(-1, keepdims=True) + 1)), table.rewards, table.initial
    )
    known = optimal(model)
    plan = plan_of(state, ONE_HOT, table.rewards, bonus=0.0)
    np.testing.assert_allclose(plan.values, known.values, atol=1e-12)
    np.testing.assert_allclose(plan.action_values, known.action_values, atol=1e-12)
    np.testing.assert_allclose(plan.logps, known.logps)


@pytest.mark.long
def test_exact_data_without_bonus_are_the_optimum(linear):
    exact, features = linear
    state = lsvi.from_counts(features, exact.transitions, ridge=1e-12)
    best = optimal(exact)
    np.testing.assert_allclose(
        plan_of(state, features, exact.rewards, bonus=0.0).values, best.values, atol=1e-9
    )
    logits = np.random.default_rng(9).normal(size=(H, S, A))
    ref = jnp.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    for ref_logps in (ref, jnp.zeros_like(ref)):
        soft = soft_plan_of(state, features, exact.rewards, ref_logps, beta=0.3)
        known = soft_optimal(exact, ref_logps, beta=0.3)
        np.testing.assert_allclose(soft.values, known.values, atol=1e-9)
        np.testing.assert_allclose(soft.logps, known.logps, atol=1e-8)


def test_small_beta_is_the_hard_plan(state, table):
    hard = plan_of(state, ONE_HOT, table.rewards, bonus=0.2)
    uniform = jnp.full_like(table.rewards, -jnp.log(A))
    soft = soft_plan_of(state, ONE_HOT, table.rewards, uniform, beta=1e-4, bonus=0.2)
    np.testing.assert_allclose(soft.values, hard.values, atol=H * 1e-4)


def test_bonuses_bound_the_values_from_both_sides(state, table):
    """|error of the next value| <= H ||phi||_{A^-1} on one-hot features with the true model's mean,
    up to sampling: bonus 2 is ample for 30 episodes."""
    best = optimal(table)
    optimist = plan_of(state, ONE_HOT, table.rewards, bonus=2.0)
    assert np.all(optimist.values >= best.values - 1e-12)
    pessimist = plan_of(state, ONE_HOT, table.rewards, bonus=-2.0)
    assert np.all(pessimist.values <= best.values + 1e-12)
    # A lower bound on what its own policy earns, too.
    earned = evaluate(table, pessimist.logps).values
    assert np.all(pessimist.values <= earned + 1e-12)
    assert np.max(optimist.values - pessimist.values) > 0.1


@pytest.mark.long
def test_an_optimistic_step_by_hand():
    """One state, two actions, two steps; action 0 seen three times at step 0, action 1 never."""
    features = jnp.asarray(np.eye(2).reshape(1, 2, 2))
    counts = jnp.zeros((2, 1, 2, 1)).at[0, 0, 0, 0].set(3.0)
    rewards = jnp.array([[[0.0, 0.1]], [[0.5, 0.4]]])
    state = lsvi.from_counts(features, counts, ridge=1.0)
    plan = plan_of(state, features, rewards, bonus=0.3)
    # V_2 = 0.5; 3/4 of it, 0.3 sqrt(1/4) on top, and 0.1 + 0.3 for the action that is new.
    np.testing.assert_allclose(plan.action_values[0, 0], [0.375 + 0.15, 0.4], atol=1e-12)
    np.testing.assert_allclose(plan.values[:, 0], [0.525, 0.5, 0.0], atol=1e-12)
    # The next value is at most the one step that is left.
    ample = plan_of(state, features, rewards, bonus=5.0)
    np.testing.assert_allclose(ample.action_values[0, 0], [1.0, 1.1], atol=1e-12)


@pytest.mark.long
def test_no_noise_and_no_truncation_is_the_plain_plan(state, table):
    """And truncation alone gives what is new the most it can be worth."""
    key, rewards = jax.random.key(0), table.rewards
    free = drawn_plan_of(key, state, ONE_HOT, rewards, sigma=0.0, low=2.0, high=3.0)
    plain = plan_of(state, ONE_HOT, rewards, bonus=0.0)
    np.testing.assert_allclose(free.action_values, plain.action_values, atol=1e-12)
    cut = drawn_plan_of(key, state, ONE_HOT, rewards, sigma=0.0, low=0.75, high=0.95)
    new = np.asarray(jnp.diagonal(state.inverse, axis1=1, axis2=2)).reshape(H, S, A) == 1.0
    after = np.array([2.0, 1.0, 0.0])[:, None, None]
    assert 0 < new[:2].sum() < new[:2].size
    np.testing.assert_allclose((cut.action_values - rewards)[new], (after + 0 * rewards)[new])
    known = cut.weights.reshape(H, S, A)
    np.testing.assert_allclose((cut.action_values - rewards)[~new], known[~new], atol=1e-12)
    # Halfway between the thresholds half of each.
    u = float(np.sqrt(state.inverse[0, 0, 0]))
    half = drawn_plan_of(key, state, ONE_HOT, rewards, sigma=0.0, low=u - 0.1, high=u + 0.1)
    mixed = 0.5 * half.weights[0, 0] + 0.5 * 2.0
    np.testing.assert_allclose(half.action_values[0, 0, 0] - rewards[0, 0, 0], mixed, atol=1e-9)


@pytest.mark.slow
def test_draws_have_the_covariance_of_the_regression(linear):
    """Weights of the last step, which has no values: mean 0, covariance sigma^2 A^-1."""
    exact, features = linear
    state = lsvi.from_counts(features, exact.transitions, ridge=1.0)

    def draw(key):
        return lsvi.randomised_plan(
            key, state, features, exact.rewards, sigma=0.5, low=9.0, high=10.0
        )

    keys = jax.random.split(jax.random.key(4), 4_000)
    plans = jax.jit(jax.vmap(draw))(keys)
    last = plans.weights[:, -1]
    np.testing.assert_allclose(np.cov(last.T), 0.25 * state.inverse[-1], atol=0.02)
    np.testing.assert_allclose(last.mean(0), 0.0, atol=0.03)
    # One action for each state, and one draw of weights for all of them; vmap is a loop.
    assert set(np.unique(np.exp(plans.logps))) == {0.0, 1.0}
    one = drawn_plan_of(keys[7], state, features, exact.rewards, sigma=0.5, low=9.0, high=10.0)
    np.testing.assert_allclose(plans.weights[7], one.weights, atol=1e-12)


@pytest.mark.slow
def test_gradient_of_the_soft_value_is_checked_by_differences(state, table):
    uniform = jnp.full_like(table.rewards, -jnp.log(A))

    @jax.jit
    def value(rewards):
        return jnp.sum(lsvi.soft_plan(state, ONE_HOT, rewards, uniform, beta=0.5).values[0])

    slopes = jax.grad(value)(table.rewards)
    assert float(jnp.min(jnp.abs(slopes[0]))) > 0
    for entry in ((0, 1, 0), (1, 2, 1), (2, 3, 0)):
        up, down = (value(table.rewards.at[entry].add(step)) for step in (1e-5, -1e-5))
        np.testing.assert_allclose(slopes[entry], (up - down) / 2e-5, atol=1e-8)
