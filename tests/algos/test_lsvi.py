"""Least-squares value iteration: its limits are methods we know, and its bounds are bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos import lsvi
from rlhf_jax.envs.linear_mdp import one_hot_features, random_linear_mdp, to_finite_mdp
from rlhf_jax.envs.tabular_mdp import FiniteMDP, random_mdp
from rlhf_jax.exact import finite_mdp

H, S, A = 3, 4, 2
ONE_HOT = one_hot_features(S, A)


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def table() -> FiniteMDP:
    return random_mdp(jax.random.key(0), horizon=H, num_states=S, num_actions=A)


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
    start = lsvi.init(horizon=H, num_features=S * A, num_states=S)
    update = jax.jit(lsvi.update)
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
    known = finite_mdp.optimal(model)
    plan = jax.jit(lsvi.plan)(state, ONE_HOT, table.rewards)
    np.testing.assert_allclose(plan.values, known.values, atol=1e-12)
    np.testing.assert_allclose(plan.action_values, known.action_values, atol=1e-12)
    np.testing.assert_allclose(plan.logps, known.logps)


def test_exact_data_without_bonus_are_the_optimum():
    mdp = random_linear_mdp(
        jax.random.key(1), horizon=3, num_states=8, num_actions=3, num_features=4
    )
    exact = to_finite_mdp(mdp)
    state = lsvi.from_counts(mdp.features, exact.transitions, ridge=1e-12)
    plan = lsvi.plan(state, mdp.features, exact.rewards)
    best = finite_mdp.optimal(exact)
    np.testing.assert_allclose(plan.values, best.values, atol=1e-9)
    ref = jax.nn.log_softmax(jax.random.normal(jax.random.key(2), exact.rewards.shape))
    for ref_logps in (ref, jnp.zeros_like(ref)):
        soft = lsvi.soft_plan(state, mdp.features, exact.rewards, ref_logps, beta=0.3)
        known = finite_mdp.soft_optimal(exact, ref_logps, beta=0.3)
        np.testing.assert_allclose(soft.values, known.values, atol=1e-9)
        np.testing.assert_allclose(soft.logps, known.logps, atol=1e-8)


def test_small_beta_is_the_hard_plan(state, table):
    hard = lsvi.plan(state, ONE_HOT, table.rewards, bonus=0.2)
    uniform = jnp.full_like(table.rewards, -jnp.log(A))
    soft = lsvi.soft_plan(state, ONE_HOT, table.rewards, uniform, beta=1e-4, bonus=0.2)
    np.testing.assert_allclose(soft.values, hard.values, atol=H * 1e-4)


def test_bonuses_bound_the_values_from_both_sides(state, table):
    """|error of the next value| <= H ||phi||_{A^-1} on one-hot features with the true model's mean,
    up to sampling: bonus 2 is ample for 30 episodes."""
    best = finite_mdp.optimal(table)
    optimist = lsvi.plan(state, ONE_HOT, table.rewards, bonus=2.0)
    assert np.all(optimist.values >= best.values - 1e-12)
    pessimist = lsvi.plan(state, ONE_HOT, table.rewards, bonus=-2.0)
    assert np.all(pessimist.values <= best.values + 1e-12)
    # A lower bound on what its own policy earns, too.
    earned = finite_mdp.evaluate(table, pessimist.logps).values
    assert np.all(pessimist.values <= earned + 1e-12)
    assert np.max(optimist.values - pessimist.values) > 0.1


def test_an_optimistic_step_by_hand():
    """One state, two actions, two steps; action 0 seen three times at step 0, action 1 never."""
    features = one_hot_features(1, 2)
    counts = jnp.zeros((2, 1, 2, 1)).at[0, 0, 0, 0].set(3.0)
    rewards = jnp.array([[[0.0, 0.1]], [[0.5, 0.4]]])
    state = lsvi.from_counts(features, counts, ridge=1.0)
    plan = lsvi.plan(state, features, rewards, bonus=0.3)
    # V_2 = 0.5; 3/4 of it, 0.3 sqrt(1/4) on top, and 0.1 + 0.3 for the action that is new.
    np.testing.assert_allclose(plan.action_values[0, 0], [0.375 + 0.15, 0.4], atol=1e-12)
    np.testing.assert_allclose(plan.values[:, 0], [0.525, 0.5, 0.0], atol=1e-12)
    # The next value is at most the one step that is left.
    ample = lsvi.plan(state, features, rewards, bonus=5.0)
    np.testing.assert_allclose(ample.action_values[0, 0], [1.0, 1.1], atol=1e-12)


def test_no_noise_and_no_truncation_is_the_plain_plan(state, table):
    """And truncation alone gives what is new the most it can be worth."""
    key, rewards = jax.random.key(0), table.rewards
    free = lsvi.randomised_plan(key, state, ONE_HOT, rewards, sigma=0.0, low=2.0, high=3.0)
    plain = lsvi.plan(state, ONE_HOT, rewards)
    np.testing.assert_allclose(free.action_values, plain.action_values, atol=1e-12)
    cut = lsvi.randomised_plan(key, state, ONE_HOT, rewards, sigma=0.0, low=0.75, high=0.95)
    new = np.asarray(jnp.diagonal(state.inverse, axis1=1, axis2=2)).reshape(H, S, A) == 1.0
    after = np.array([2.0, 1.0, 0.0])[:, None, None]
    assert 0 < new[:2].sum() < new[:2].size
    np.testing.assert_allclose((cut.action_values - rewards)[new], (after + 0 * rewards)[new])
    known = cut.weights.reshape(H, S, A)
    np.testing.assert_allclose((cut.action_values - rewards)[~new], known[~new], atol=1e-12)
    # Halfway between the thresholds half of each.
    u = float(np.sqrt(state.inverse[0, 0, 0]))
    half = lsvi.randomised_plan(key, state, ONE_HOT, rewards, sigma=0.0, low=u - 0.1, high=u + 0.1)
    mixed = 0.5 * half.weights[0, 0] + 0.5 * 2.0
    np.testing.assert_allclose(half.action_values[0, 0, 0] - rewards[0, 0, 0], mixed, atol=1e-9)


def test_draws_have_the_covariance_of_the_regression():
    """Weights of the step before the last: mean w, covariance sigma^2 A^-1."""
    mdp = random_linear_mdp(
        jax.random.key(3), horizon=2, num_states=5, num_actions=2, num_features=3
    )
    exact = to_finite_mdp(mdp)
    state = lsvi.from_counts(mdp.features, exact.transitions, ridge=1.0)

    def draw(key):
        plan = lsvi.randomised_plan(
            key, state, mdp.features, exact.rewards, sigma=0.5, low=9.0, high=10.0
        )
        return plan.weights, plan.logps

    weights, logps = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(4), 20_000))
    known = 0.25 * state.inverse[1]
    np.testing.assert_allclose(np.cov(weights[:, 1].T), known, atol=4e-3)
    np.testing.assert_allclose(weights[:, 1].mean(0), 0.0, atol=0.01)
    # One action for each state, and one draw of weights for all of them.
    assert set(np.unique(np.exp(logps))) == {0.0, 1.0}
    one = draw(jax.random.split(jax.random.key(4), 20_000)[7])
    np.testing.assert_allclose(weights[7], one[0], atol=1e-12)


def test_gradient_of_the_soft_value_is_checked_by_differences(state, table):
    uniform = jnp.full_like(table.rewards, -jnp.log(A))

    def value(rewards):
        rewards = jnp.asarray(rewards)  # the checker passes NumPy
        plan = lsvi.soft_plan(state, ONE_HOT, rewards, uniform, beta=0.5)
        return jnp.sum(plan.values[0])

    jax.test_util.check_grads(value, (table.rewards,), order=1, modes=("rev",))
