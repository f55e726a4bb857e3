"""Finite-horizon solutions against enumeration of all policies and of all paths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.exact import finite_mdp
from rlhf_jax.exact.bandit import regularised_optimum

H, S, A = 2, 2, 2


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


# One program each, for all the tests of a shape.
evaluate, occupancy, trajectory_kl, policy_return, optimal, soft_optimal, regret = map(
    jax.jit,
    (
        finite_mdp.evaluate,
        finite_mdp.occupancy,
        finite_mdp.trajectory_kl,
        finite_mdp.policy_return,
        finite_mdp.optimal,
        finite_mdp.soft_optimal,
        finite_mdp.regret,
    ),
)


def small(seed: int = 0) -> FiniteMDP:
    rng = np.random.default_rng(seed)
    transitions, rewards = rng.dirichlet(np.ones(S), (H, S, A)), rng.uniform(size=(H, S, A))
    return FiniteMDP(jnp.asarray(transitions), jnp.asarray(rewards), jnp.array([0.3, 0.7]))


def random_logps(seed: int, shape=(H, S, A)):
    return jax.nn.log_softmax(jax.random.normal(jax.random.key(seed), shape))


def all_deterministic() -> jax.Array:
    """[16, H, S, A] every deterministic policy."""
    choices = np.array(list(itertools.product(range(A), repeat=H * S))).reshape(-1, H, S)
    return jnp.where(jax.nn.one_hot(choices, A) == 1, 0.0, -jnp.inf)


def paths(mdp: FiniteMDP, logps) -> list[tuple[float, float, list]]:
    """(probability, return, [(h, s, a)]) of every path, by plain loops."""
    found = []
    probs = np.exp(np.asarray(logps))
    for states in itertools.product(range(S), repeat=H):
        for actions in itertools.product(range(A), repeat=H):
            chance, total = float(mdp.initial[states[0]]), 0.0
            steps = list(zip(range(H), states, actions, strict=True))
            for h, s, a in steps:
                chance *= probs[h, s, a]
                total += float(mdp.rewards[h, s, a])
                if h + 1 < H:
                    chance *= float(mdp.transitions[h, s, a, states[h + 1]])
            found.append((chance, total, steps))
    return found


def test_values_by_hand(x64):
    """One place, two steps: the second pays 1 or 2, the first 0 or 3."""
    mdp = FiniteMDP(jnp.ones((2, 1, 2, 1)), jnp.array([[[0.0, 3.0]], [[1.0, 2.0]]]), jnp.ones(1))
    assert optimal(mdp).values.tolist() == [[5.0], [2.0], [0.0]]
    half = jnp.full((2, 1, 2), jnp.log(0.5))
    np.testing.assert_allclose(evaluate(mdp, half).values, [[3.0], [1.5], [0.0]])
    np.testing.assert_allclose(regret(mdp, half), 2.0)


def test_return_and_occupancy_by_enumeration_of_paths(x64):
    mdp, logps = small(), random_logps(1)
    listed = paths(mdp, logps)
    assert sum(chance for chance, _, _ in listed) == pytest.approx(1)
    value = sum(chance * total for chance, total, _ in listed)
    np.testing.assert_allclose(policy_return(mdp, logps), value, rtol=1e-12)
    visits = np.zeros((H, S))
    for chance, _, steps in listed:
        for h, s, _ in steps:
            visits[h, s] += chance
    np.testing.assert_allclose(occupancy(mdp, logps), visits, rtol=1e-12)


def test_kl_of_paths_by_enumeration(x64):
    mdp, logps, ref = small(), random_logps(1), random_logps(2)
    ratio = np.asarray(logps - ref)
    kl = sum(chance * sum(ratio[step] for step in steps) for chance, _, steps in paths(mdp, logps))
    np.testing.assert_allclose(trajectory_kl(mdp, logps, ref), kl, rtol=1e-12)
    soft = evaluate(mdp, logps, ref_logps=ref, beta=0.7)
    value = policy_return(mdp, logps) - 0.7 * kl
    np.testing.assert_allclose(mdp.initial @ soft.values[0], value, rtol=1e-12)


def test_kl_counts_only_what_is_visited(x64):
    """The reference never acts where the policy never is: no inf, no NaN."""
    moves = jnp.broadcast_to(jnp.array([1.0, 0.0]), (H, S, A, S))
    mdp = FiniteMDP(moves, jnp.zeros((H, S, A)), jnp.array([1.0, 0.0]))
    logps = jnp.full((H, S, A), jnp.log(0.5))
    ref = logps.at[:, 1, 0].set(-jnp.inf)
    assert trajectory_kl(mdp, logps, ref) == 0.0
    assert trajectory_kl(mdp, logps, ref.at[1, 0, 0].set(-jnp.inf)) == jnp.inf


@pytest.mark.long
def test_the_optimum_is_the_best_of_all_deterministic_policies(x64):
    mdp = small()
    returns = jax.vmap(lambda logps: policy_return(mdp, logps))(all_deterministic())
    best = optimal(mdp)
    np.testing.assert_allclose(mdp.initial @ best.values[0], returns.max(), rtol=1e-12)
    np.testing.assert_allclose(policy_return(mdp, best.logps), returns.max(), rtol=1e-12)
    regrets = jax.vmap(lambda logps: regret(mdp, logps))(all_deterministic())
    np.testing.assert_allclose(regrets, returns.max() - returns, atol=1e-12)
    assert float(regrets.min()) >= -1e-12
    assert float(finite_mdp.bellman_residual(mdp, best.values)) < 1e-14


@pytest.mark.long
def test_the_soft_optimum_beats_every_other_policy_and_attains_its_value(x64):
    mdp, ref = small(), random_logps(2)
    best = soft_optimal(mdp, ref, beta=0.3)
    same = evaluate(mdp, best.logps, ref_logps=ref, beta=0.3)
    np.testing.assert_allclose(same.values, best.values, rtol=1e-12)
    residual = finite_mdp.bellman_residual(mdp, best.values, ref_logps=ref, beta=0.3)
    assert float(residual) < 1e-14
    others = jax.vmap(lambda key: jax.random.normal(key, (H, S, A)))(
        jax.random.split(jax.random.key(4), 200)
    )
    values = jax.vmap(
        lambda logits: (
            evaluate(
                mdp, jax.nn.log_softmax(best.logps + 0.3 * logits), ref_logps=ref, beta=0.3
            ).values
        )
    )(others)
    assert bool(jnp.all(values <= best.values + 1e-12))


def test_limits_of_beta(x64):
    mdp, ref = small(), random_logps(2)
    cold = soft_optimal(mdp, ref, beta=1e-5)
    np.testing.assert_allclose(cold.values, optimal(mdp).values, atol=1e-4)
    hot = soft_optimal(mdp, ref, beta=1e9)
    np.testing.assert_allclose(hot.logps, ref, atol=1e-8)
    np.testing.assert_allclose(hot.values, evaluate(mdp, ref).values, atol=1e-6)


def test_a_weight_of_zero_is_refused(x64):
    with pytest.raises(ValueError, match="beta must be"):
        finite_mdp.soft_optimal(small(), random_logps(2), beta=0.0)
    with pytest.raises(ValueError, match="beta must be"):
        regularised_optimum(jnp.zeros(2), jnp.zeros(2), beta=0.0)


def test_a_bandit_is_a_horizon_of_one(x64):
    rewards, ref = jax.random.normal(jax.random.key(0), (5, 3)), random_logps(3, (5, 3))
    mdp = FiniteMDP(jnp.full((1, 5, 3, 5), 0.2), rewards[None], jnp.full(5, 0.2))
    logps = soft_optimal(mdp, ref[None], beta=0.4).logps[0]
    np.testing.assert_allclose(logps, regularised_optimum(rewards, ref, beta=0.4), rtol=1e-10)


def test_performance_difference(x64):
    """J(pi') - J(pi) = sum_h E_{d^pi'} E_{a ~ pi'} A^pi_h(s, a)."""
    mdp, old, new = small(), random_logps(1), random_logps(2)
    advantages = finite_mdp.advantages(evaluate(mdp, old))
    gain = jnp.sum(occupancy(mdp, new)[..., None] * jnp.exp(new) * advantages)
    difference = policy_return(mdp, new) - policy_return(mdp, old)
    np.testing.assert_allclose(gain, difference, rtol=1e-10)


def test_the_gradient_in_rewards_is_the_occupancy_of_pairs(x64):
    mdp, logps = small(), random_logps(1)

    def value(rewards):
        return policy_return(FiniteMDP(mdp.transitions, rewards, mdp.initial), logps)

    pairs = occupancy(mdp, logps)[..., None] * jnp.exp(logps)
    np.testing.assert_allclose(jax.grad(value)(mdp.rewards), pairs, rtol=1e-12)


def test_the_residual_bounds_the_error(x64):
    mdp = small()
    exact = optimal(mdp).values
    claimed = exact + 0.1 * jax.random.normal(jax.random.key(5), exact.shape)
    residual = finite_mdp.bellman_residual(mdp, claimed)
    left = jnp.arange(H + 1, 0, -1)[:, None]
    assert bool(jnp.all(jnp.abs(claimed - exact) <= left * residual))
    assert float(residual) > 0.01


@pytest.mark.long
def test_leading_axes_vmap_and_jit_agree(x64):
    batch = jax.tree.map(lambda *x: jnp.stack(x), *(small(seed) for seed in range(3)))
    ref = random_logps(2, (3, H, S, A))

    def solve(mdp, ref):
        best = soft_optimal(mdp, ref, beta=0.3)
        return best, occupancy(mdp, best.logps), regret(mdp, best.logps)

    together, apart = jax.jit(solve)(batch, ref), jax.vmap(jax.jit(solve))(batch, ref)
    for first, second in zip(*map(jax.tree.leaves, (together, apart)), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-13)
