"""Discounted solutions against enumeration, long iteration and finite differences."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.tabular_mdp import DiscountedMDP, FiniteMDP, random_mdp
from rlhf_jax.exact import discounted_mdp, finite_mdp
from rlhf_jax.exact.bandit import regularised_optimum

S, A = 3, 2


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def eps(request):
    """Precision of the default type, in both."""
    with jax.enable_x64(request.param):
        yield float(jnp.finfo(jnp.zeros(()).dtype).eps)


# One program each, for all the tests of a shape.
evaluate, occupancy, policy_return, optimal, soft_optimal, regret = map(
    jax.jit,
    (
        discounted_mdp.evaluate,
        discounted_mdp.occupancy,
        discounted_mdp.policy_return,
        discounted_mdp.optimal,
        discounted_mdp.soft_optimal,
        discounted_mdp.regret,
    ),
)


def small(seed: int = 0, gamma: float = 0.9) -> DiscountedMDP:
    rng = np.random.default_rng(seed)
    transitions, rewards = rng.dirichlet(np.ones(S), (S, A)), rng.uniform(size=(S, A))
    initial = jnp.array([0.2, 0.3, 0.5])
    return DiscountedMDP(jnp.asarray(transitions), jnp.asarray(rewards), initial, jnp.array(gamma))


def random_logps(seed: int, shape=(S, A)):
    return jax.nn.log_softmax(jax.random.normal(jax.random.key(seed), shape))


def iterate(mdp: DiscountedMDP, backup, sweeps: int = 2000) -> np.ndarray:
    """V after many sweeps of `backup(Q) -> V`, in NumPy."""
    values = np.zeros(S)
    for _ in range(sweeps):
        values = backup(np.asarray(mdp.rewards) + float(mdp.gamma) * (mdp.transitions @ values))
    return values


def test_values_by_hand(eps):
    """One place that pays 1 for ever, at gamma = 3/4."""
    mdp = DiscountedMDP(jnp.ones((1, 1, 1)), jnp.ones((1, 1)), jnp.ones(1), jnp.array(0.75))
    np.testing.assert_allclose(optimal(mdp).values, [4.0])
    np.testing.assert_allclose(occupancy(mdp, jnp.zeros((1, 1))), [1.0])


@pytest.mark.long
def test_policy_values_and_the_soft_optimum_by_iteration(x64):
    mdp, logps, ref = small(), random_logps(1), random_logps(2)
    probs, log_ref = np.exp(np.asarray(logps)), np.asarray(ref)
    kl = (probs * (np.asarray(logps) - log_ref)).sum(-1)
    found = evaluate(mdp, logps, ref_logps=ref, beta=0.5)
    want = iterate(mdp, lambda q: (probs * np.asarray(q)).sum(-1) - 0.5 * kl)
    np.testing.assert_allclose(found.values, want, rtol=1e-10)
    soft = soft_optimal(mdp, ref, beta=0.5)
    want = iterate(mdp, lambda q: 0.5 * np.log(np.exp(log_ref + np.asarray(q) / 0.5).sum(-1)))
    np.testing.assert_allclose(soft.values, want, rtol=1e-10)
    assert float(discounted_mdp.bellman_residual(mdp, soft.values, ref_logps=ref, beta=0.5)) < 1e-12


@pytest.mark.long
@pytest.mark.parametrize("gamma", [0.0, 0.9, 0.999])
def test_the_optimum_is_the_best_of_all_deterministic_policies(eps, gamma):
    mdp = small(gamma=gamma)
    choices = np.array(list(itertools.product(range(A), repeat=S)))
    logps = jnp.where(jax.nn.one_hot(choices, A) == 1, 0.0, -jnp.inf)
    values = jax.vmap(lambda each: evaluate(mdp, each).values)(logps)
    best, scale = optimal(mdp), 1 / (1 - gamma)
    np.testing.assert_allclose(best.values, values.max(0), rtol=16 * eps * scale)
    np.testing.assert_allclose(evaluate(mdp, best.logps).values, best.values, rtol=4 * eps * scale)
    assert float(discounted_mdp.bellman_residual(mdp, best.values)) < 16 * eps * scale
    regrets = jax.vmap(lambda each: regret(mdp, each))(logps)
    want = (values.max(0) - values) @ mdp.initial
    np.testing.assert_allclose(regrets, want, atol=16 * eps * scale**2)


def two_states(level: float = 0.0) -> DiscountedMDP:
    """Stay for 0.5, or leave for nothing and come back for 1.1; `level` is paid in any case."""
    transitions = jnp.array([[[1.0, 0], [0, 1]], [[1, 0], [1, 0]]])
    rewards = jnp.array([[0.5, 0.0], [1.1, 1.1]]) + level
    return DiscountedMDP(transitions, rewards, jnp.array([1.0, 0.0]), jnp.array(0.999))


@pytest.mark.long
def test_what_is_paid_everywhere_changes_no_policy(eps):
    """1000 / (1 - g) = 10^6, of which float32 holds no fraction: gains of 0.05 would be lost."""
    best = optimal(two_states(1000.0))
    np.testing.assert_array_equal(jnp.exp(best.logps), [[0, 1], [0.5, 0.5]])
    plain, level = (
        discounted_mdp.soft_optimal(two_states(level), jnp.zeros((2, 2)), beta=0.01).logps
        for level in (0.0, 1000.0)
    )
    np.testing.assert_allclose(level, plain, rtol=0.01)


def test_near_a_discount_of_one_a_small_gain_is_taken(eps):
    """V = 1.1 g / (1 - g^2) = 549.72, though leaving gains no more than 0.05 a step.

    Staying is worth 0.5 / (1 - g) = 500.
    """
    mdp = two_states()
    best, stay = optimal(mdp), jnp.log(jnp.array([[1.0, 0.0], [0.5, 0.5]]))
    assert best.values[0] == pytest.approx(549.72, abs=0.02)
    np.testing.assert_array_equal(jnp.exp(best.logps), [[0, 1], [0.5, 0.5]])
    assert regret(mdp, stay) == pytest.approx(49.72, abs=0.02)


@pytest.mark.long
@pytest.mark.parametrize("gamma", [0.999, 0.9995])
def test_float32_plans_as_well_as_float64_near_a_discount_of_one(gamma):
    worlds = jax.vmap(lambda key: random_mdp(key, horizon=1, num_states=20, num_actions=4))(
        jax.random.split(jax.random.key(0), 5)
    )
    mdp = DiscountedMDP(
        worlds.transitions[:, 0], worlds.rewards[:, 0], worlds.initial, jnp.full(5, gamma)
    )
    best, doubled = optimal(mdp), jax.tree.map(lambda x: np.asarray(x, np.float64), mdp)
    with jax.enable_x64(True):
        exact = np.asarray(optimal(doubled).values)
        reached = np.asarray(evaluate(doubled, np.asarray(best.logps, np.float64)).values)
    assert np.max(1 - reached / exact) < 1e-3
    bound = discounted_mdp.bellman_residual(mdp, best.values) / (1 - mdp.gamma)
    assert np.all(np.abs(exact - best.values).max(-1) <= bound)


def corridor(num_states: int, gamma: float) -> DiscountedMDP:
    """Back or forwards; entering the last state pays 1, leaving it is impossible."""
    places = np.arange(num_states)
    transitions = np.zeros((num_states, 2, num_states))
    for action, step in enumerate((-1, 1)):
        transitions[places, action, np.clip(places + step, 0, num_states - 1)] = 1.0
    transitions[-1] = np.eye(num_states)[-1]
    rewards = transitions[..., -1] * (places < num_states - 1)[:, None]
    initial = np.eye(num_states)[0]
    return DiscountedMDP(*map(jnp.asarray, (transitions, rewards, initial, gamma)))


@pytest.mark.long
def test_a_corridor_is_solved_to_its_end(eps):
    """Policy iteration extends the plan by one state a sweep. V(0) = 0.99^248 = 0.0827."""
    mdp = jax.tree.map(lambda x: x.astype(float), corridor(250, 0.99))
    best = optimal(mdp)
    assert best.values[0] == pytest.approx(0.99**248, rel=1e-5)
    assert bool(jnp.all(best.logps[:-1, 1] == 0.0))


@pytest.mark.long
def test_soft_policies_of_a_corridor_are_solved_to_its_end(eps):
    """A reference that goes forwards with log-prob -50 costs 50 beta a step:
    V(0) = g^248 - 50 beta (1 - g^249) / (1 - g) = 0.0827 - 5e-5 * 91.8 = 0.0781.
    """
    mdp = jax.tree.map(lambda x: x.astype(float), corridor(250, 0.99))
    ref = jnp.broadcast_to(jnp.array([0.0, -50.0]), (250, 2))
    soft = soft_optimal(mdp, ref, beta=1e-6)
    assert soft.values[0] == pytest.approx(0.0781, abs=1e-4)
    residual = discounted_mdp.bellman_residual(mdp, soft.values, ref_logps=ref, beta=1e-6)
    assert float(residual) < 16 * eps


def test_a_discount_of_one_and_a_weight_of_zero_are_refused():
    mdp, ref = small(), random_logps(2)
    endless = replace(mdp, gamma=jnp.array([0.9, 1.0]))
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\), got 1.0 at \[1\]"):
        discounted_mdp.optimal(endless)
    with pytest.raises(ValueError, match="beta must be"):
        discounted_mdp.soft_optimal(mdp, ref, beta=0.0)


def test_the_optimum_does_not_depend_on_where_it_starts(x64):
    """From the worst policy, a random one, and the optimum itself."""
    mdp = small()
    best = optimal(mdp)
    worst = optimal(replace(mdp, rewards=-mdp.rewards)).logps
    for start in (worst, random_logps(3), best.logps):
        found = optimal(mdp, start)
        np.testing.assert_allclose(found.values, best.values, rtol=1e-12)
        np.testing.assert_array_equal(found.logps, best.logps)


def test_ties_are_shared(eps):
    mdp = small()
    twice = replace(
        mdp,
        transitions=jnp.concatenate([mdp.transitions] * 2, axis=1),
        rewards=jnp.concatenate([mdp.rewards] * 2, axis=1),
    )
    best = optimal(twice)
    np.testing.assert_allclose(best.values, optimal(mdp).values, rtol=100 * eps)
    assert jnp.exp(best.logps).max() == pytest.approx(0.5)


def test_limits_of_beta_and_gamma(x64):
    mdp, ref = small(), random_logps(2)
    cold = soft_optimal(mdp, ref, beta=1e-6)
    np.testing.assert_allclose(cold.values, optimal(mdp).values, atol=1e-4)
    hot = soft_optimal(mdp, ref, beta=1e9)
    np.testing.assert_allclose(hot.logps, ref, atol=1e-8)
    bandit = soft_optimal(small(gamma=0.0), ref, beta=0.4).logps
    want = regularised_optimum(mdp.rewards, ref, beta=0.4)
    np.testing.assert_allclose(bandit, want, rtol=1e-10)


def test_advantages_of_the_max_ent_optimum_are_its_log_probs(x64):
    """A*(s, a) = beta log pi*(a | s): what contrastive preference learning stands on."""
    soft = soft_optimal(small(), jnp.zeros((S, A)), beta=0.3)
    np.testing.assert_allclose(discounted_mdp.advantages(soft), 0.3 * soft.logps, rtol=1e-9)


@pytest.mark.long
def test_a_long_horizon_with_a_chance_to_stop_is_a_discount(x64):
    """300 steps of rewards gamma^t r."""
    mdp, logps = small(gamma=0.9), random_logps(1)
    powers = 0.9 ** jnp.arange(300)[:, None, None]
    finite = FiniteMDP(
        jnp.broadcast_to(mdp.transitions, (300, S, A, S)), powers * mdp.rewards, mdp.initial
    )
    shown = jnp.broadcast_to(logps, (300, S, A))
    np.testing.assert_allclose(
        finite_mdp.policy_return(finite, shown),
        policy_return(mdp, logps),
        rtol=1e-11,
    )
    visits = jnp.sum(0.1 * powers[..., 0] * finite_mdp.occupancy(finite, shown), axis=0)
    np.testing.assert_allclose(visits, occupancy(mdp, logps), rtol=1e-11)


def test_performance_difference(x64):
    mdp, old, new = small(), random_logps(1), random_logps(2)
    advantages = discounted_mdp.advantages(evaluate(mdp, old))
    visits = occupancy(mdp, new)[:, None] * jnp.exp(new)
    gain = jnp.sum(visits * advantages) / (1 - mdp.gamma)
    difference = policy_return(mdp, new) - policy_return(mdp, old)
    np.testing.assert_allclose(gain, difference, rtol=1e-10)


@pytest.mark.long
def test_the_envelope_gradient_is_that_of_successor_features(x64):
    mdp = small()
    features = jax.random.normal(jax.random.key(3), (S, A, 4))
    weights = jax.random.normal(jax.random.key(4), (4,))

    def values(weights):
        told = replace(mdp, rewards=features @ weights)
        return discounted_mdp.differentiable_optimal(told).values

    best = optimal(replace(mdp, rewards=features @ weights))
    psi = discounted_mdp.successor_features(mdp, best.logps, features)
    np.testing.assert_allclose(jax.jacobian(values)(weights), psi, rtol=1e-10)
    np.testing.assert_allclose(psi @ weights, best.values, rtol=1e-10)
    step = 1e-6 * jax.random.normal(jax.random.key(5), (4,))
    moved = optimal(replace(mdp, rewards=features @ (weights + step))).values
    np.testing.assert_allclose(moved - best.values, psi @ step, rtol=1e-4, atol=1e-12)


def test_the_residual_bounds_the_error(x64):
    mdp = small()
    exact = optimal(mdp).values
    claimed = exact + 0.1 * jax.random.normal(jax.random.key(5), exact.shape)
    residual = float(discounted_mdp.bellman_residual(mdp, claimed))
    assert float(jnp.abs(claimed - exact).max()) <= residual / (1 - 0.9)
    assert residual > 0.01


@pytest.mark.long
def test_leading_axes_vmap_and_jit_agree(x64):
    batch = jax.tree.map(lambda *x: jnp.stack(x), *(small(seed, 0.8) for seed in range(3)))
    batch = replace(batch, gamma=jnp.array([0.5, 0.8, 0.95]))
    ref = random_logps(2, (3, S, A))

    def solve(mdp, ref):
        best, soft = optimal(mdp), soft_optimal(mdp, ref, beta=0.3)
        return best, soft, occupancy(mdp, soft.logps)

    together, apart = jax.jit(solve)(batch, ref), jax.vmap(jax.jit(solve))(batch, ref)
    for first, second in zip(*map(jax.tree.leaves, (together, apart)), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-11)
