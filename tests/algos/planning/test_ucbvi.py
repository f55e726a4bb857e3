"""UCBVI-Ent+ against exact planning, its bounds, and the two inequalities of its analysis."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.planning import ucbvi
from rlhf_jax.algos.planning.ucbvi import Bonus
from rlhf_jax.envs.tabular_mdp import FiniteMDP, finite_env
from rlhf_jax.exact import bandit
from rlhf_jax.exact.finite_mdp import (
    Solution,
    evaluate,
    occupancy,
    optimal,
    policy_return,
    soft_optimal,
    trajectory_kl,
)
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode

SHAPE = (3, 3, 2)
NOTHING = Bonus(variance=0.0, visits=0.0)


def random_problem(seed: int, shape=SHAPE) -> tuple[FiniteMDP, jax.Array]:
    """An MDP and a reference; from NumPy, which compiles nothing."""
    rng = np.random.default_rng(seed)
    mdp = FiniteMDP(
        jnp.asarray(rng.dirichlet(np.ones(shape[1]), size=shape)),
        jnp.asarray(rng.random(shape)),
        jnp.asarray(np.eye(shape[1])[0]),
    )
    return mdp, jnp.asarray(np.log(rng.dirichlet(np.ones(shape[2]), size=shape[:2])))


@partial(jax.jit, static_argnames="bonus")
def planned(counts, rewards, ref, beta, bonus):
    return ucbvi.confidence_plan(ucbvi.CountState(counts), rewards, ref, beta=beta, bonus=bonus)


@jax.jit
def solved(mdp: FiniteMDP, ref: jax.Array, beta: jax.Array) -> Solution:
    """Exact, soft or hard."""
    soft, hard = soft_optimal(mdp, ref, beta=jnp.where(beta > 0, beta, 1.0)), optimal(mdp)
    return jax.tree.map(lambda x, y: jnp.where(beta > 0, x, y), soft, hard)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.long
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_with_exact_counts_and_no_bonus_the_plan_is_the_exact_solution(beta):
    mdp, ref = random_problem(0)
    found = planned(1e6 * mdp.transitions, mdp.rewards, ref, beta, NOTHING)
    exact = solved(mdp, ref, beta)
    for values in (found.upper, found.lower):
        np.testing.assert_allclose(values, exact.action_values, rtol=1e-12)
    for logps in (found.logps, found.model_logps):
        np.testing.assert_allclose(np.exp(logps), np.exp(exact.logps), atol=1e-12)
    np.testing.assert_allclose(found.gaps, 0.0, atol=1e-12)


def test_a_small_beta_comes_to_the_hard_plan_and_a_large_one_to_the_reference():
    mdp, ref = random_problem(1)
    counts = 50 * mdp.transitions  # enough that no bound is clipped, where the hard plan has ties
    plans = [planned(counts, mdp.rewards, ref, b, Bonus()) for b in (0.0, 1e-4, 1e6)]
    np.testing.assert_allclose(plans[1].upper, plans[0].upper, atol=1e-2)
    np.testing.assert_allclose(np.exp(plans[1].logps), np.exp(plans[0].logps), atol=1e-6)
    np.testing.assert_allclose(plans[2].logps, ref, atol=1e-4)


def test_a_horizon_of_one_is_the_regularised_bandit():
    """The last step, that is: after it nothing is paid."""
    mdp, ref = random_problem(2)
    found = planned(1e6 * mdp.transitions, mdp.rewards, ref, 0.5, NOTHING)
    expected = bandit.regularised_optimum(mdp.rewards[-1], ref[-1], beta=0.5)
    np.testing.assert_allclose(found.logps[-1], expected, rtol=1e-12)


def test_bounds_by_hand():
    """Two steps, one state, two actions; the second one was never tried at the first step."""
    counts = jnp.zeros((2, 1, 2, 1)).at[0, 0, 0, 0].set(2.0).at[1].set(4.0)
    rewards = jnp.full((2, 1, 2), 0.25)
    ref = jnp.full((2, 1, 2), jnp.log(0.5))
    found = planned(counts, rewards, ref, 0.5, Bonus(variance=1.0, visits=0.4, width=0.1))
    # Last step: 0.25 +- 0.1, uniform in both. Then 0.25 + 0.35 + b and 0.25 + 0.15 - b, where
    # b = 0.4 / 2 + 0.1 / 2 * (0.35 - 0.15) and there is no spread.
    np.testing.assert_allclose(found.upper[:, 0], [[0.81, 2.0], [0.35, 0.35]], rtol=1e-12)
    np.testing.assert_allclose(found.lower[:, 0], [[0.19, 0.0], [0.15, 0.15]], rtol=1e-12)
    # Last step: 0.2^2 / (2 * 0.5) = 0.04 is less than 0.2, and b = 0.1.
    np.testing.assert_allclose(found.gaps[1:, 0], [0.14, 0.0], rtol=1e-12)
    np.testing.assert_allclose(found.gaps[0, 0], 2.0)
    # What was never tried is worth its reward to the model.
    np.testing.assert_allclose(np.exp(found.model_logps[0, 0]), [0.62245933, 0.37754067], rtol=1e-6)


def test_exploration_is_the_plan_but_at_one_step():
    mdp, ref = random_problem(3)
    counts = jnp.zeros((*SHAPE, 3)).at[:, :, 0, 1].set(5.0)
    plan = planned(counts, mdp.rewards, ref, 0.5, Bonus())
    explore = jax.jit(jax.vmap(ucbvi.exploring_policy, (None, None, 0)))
    keys = jax.random.split(jax.random.key(0), 400)
    policies = np.exp(explore(plan.logps, plan.upper - plan.lower, keys))
    changed = (policies != np.exp(plan.logps)).any((2, 3))
    assert changed.sum(1).max() == 1
    shares = [*changed.mean(0), 1 - changed.any(1).mean()]
    np.testing.assert_allclose(shares, 0.25, atol=0.08)
    # The second action was never tried, so its bounds are widest.
    step, run = 1, np.flatnonzero(changed[:, 1])[0]
    np.testing.assert_array_equal(policies[run, step], [[0.0, 1.0]] * 3)


@pytest.mark.long
def test_an_update_counts_every_step_of_every_episode():
    start = ucbvi.init_ucbvi(horizon=2, num_states=3, num_actions=2)
    states, actions = jnp.array([[0, 1, 2], [0, 1, 0]]), jnp.array([[1, 0], [1, 0]])
    counts = ucbvi.update_counts(start, states, actions).counts
    assert counts.sum() == 4
    assert counts[0, 0, 1, 1] == 2
    assert counts[1, 1, 0, 2] == counts[1, 1, 0, 0] == 1
    one_by_one = start
    for each in range(2):
        one_by_one = ucbvi.update_counts(one_by_one, states[each], actions[each])
    np.testing.assert_array_equal(one_by_one.counts, counts)


@partial(jax.jit, static_argnames=("bonus", "episodes"))
def bracketed(key, mdp, ref, beta, *, bonus, episodes):
    """A run: how far the bounds were broken, and V* - V was above G; the counts at its end."""
    exact = solved(mdp, ref, beta)

    def episode(state, key):
        plan = ucbvi.confidence_plan(state, mdp.rewards, ref, beta=beta, bonus=bonus)
        logps = ucbvi.exploring_policy(
            plan.logps, plan.upper - plan.lower, jax.random.fold_in(key, 1)
        )
        rows = logps.reshape(-1, SHAPE[2])
        act = policy_act(tabular_policy(*rows.shape), rows)
        played = sample_episode(finite_env(mdp), act, key, steps=SHAPE[0])
        broken = jnp.maximum(plan.lower - exact.action_values, exact.action_values - plan.upper)
        value = evaluate(mdp, plan.logps, ref_logps=ref, beta=beta).values
        short = exact.values - value - plan.gaps
        told = jnp.max(broken), jnp.max(short)
        return ucbvi.update_counts(state, played.states[1], played.trajectory.actions), told

    state, told = jax.lax.scan(
        episode, ucbvi.CountState(jnp.zeros((*SHAPE, 3))), jax.random.split(key, episodes)
    )
    return jax.tree.map(jnp.max, told), state


THEORY = ucbvi.theory_bonus(horizon=3, num_states=3, num_actions=2, episodes=300, delta=0.1)


@pytest.mark.long
def test_bounds_of_the_size_of_theory_hold_whatever_was_seen():
    """Q* between them and V* - V^pi below G: up to 300 visits of each pair, 50 data sets of each.

    Without a bonus the same data give bounds that are broken; with 10^6 visits they are tight.
    """
    rng = np.random.default_rng(8)
    mdp, ref = random_problem(4)
    exact = solved(mdp, ref, 0.3)
    visits = [0, 1, 5, 30, 300]
    law = np.asarray(mdp.transitions)
    counts = np.stack([rng.multinomial(n, law, (50, *SHAPE)) for n in visits])
    counts = jnp.asarray(counts.reshape(-1, *SHAPE, SHAPE[1]), float)
    counts = jnp.concatenate([counts, 1e6 * mdp.transitions[None]])
    plans = jax.vmap(planned, (0, None, None, None, None))
    found = plans(counts, mdp.rewards, ref, 0.3, THEORY)
    assert bool(jnp.all(found.lower <= exact.action_values + 1e-12))
    assert bool(jnp.all(exact.action_values <= found.upper + 1e-12))
    value = jax.vmap(lambda p: evaluate(mdp, p, ref_logps=ref, beta=0.3).values)(found.logps)
    assert bool(jnp.all(exact.values - value <= found.gaps + 1e-12))
    assert float(jnp.max((found.upper - found.lower)[-1])) < 0.2
    bare = plans(counts, mdp.rewards, ref, 0.3, NOTHING)
    assert float(jnp.max(exact.action_values - bare.upper)) > 0.1
    assert float(jnp.max(bare.lower - exact.action_values)) > 0.1


def test_the_stopping_bound_falls_as_one_over_the_visits():
    """With a hundred times the visits widths are a tenth, G a hundredth."""
    mdp, ref = random_problem(4)
    counts = 1e6 * mdp.transitions
    plans = [planned(n * counts, mdp.rewards, ref, 0.3, Bonus()) for n in (1, 100)]
    widths = [float(jnp.max(plan.upper - plan.lower)) for plan in plans]
    assert widths[1] / widths[0] == pytest.approx(0.1, rel=0.05)
    gaps = [float(plan.gaps[0, 0]) for plan in plans]
    assert gaps[1] / gaps[0] == pytest.approx(0.01, rel=0.1)


@pytest.mark.slow
def test_bounds_of_the_size_of_theory_hold_at_every_episode():
    """The same in whole runs, soft and hard, on every state."""
    mdp, ref = random_problem(4)
    betas = jnp.array([0.0, 0.3])
    run = jax.vmap(partial(bracketed, bonus=THEORY, episodes=300), (None, None, None, 0))
    (broken, short), state = run(jax.random.key(5), mdp, ref, betas)
    assert broken.max() <= 1e-12
    assert short.max() <= 1e-12
    np.testing.assert_allclose(state.counts.sum((1, 2, 3, 4)), 900.0)


@jax.jit
@partial(jax.vmap, in_axes=(None, None, 0, None))
def worth(mdp, ref, logps, beta):
    """V, V with the penalty, KL to the reference, and occupancy of a policy."""
    value, kl = policy_return(mdp, logps), trajectory_kl(mdp, logps, ref)
    return value, value - beta * kl, kl, occupancy(mdp, logps)


def test_the_fast_rate_inequality():
    """V*_beta - V^pi_beta <= 1 / (2 beta) sum_h E_pi[max_a (U - Q*)^2], pi soft greedy in U >= Q*.

    For any U, here drawn at random.
    """
    rng = np.random.default_rng(6)
    shares = []
    for seed, beta in enumerate((0.05, 0.3, 2.0)):
        mdp, ref = random_problem(10 + seed)
        exact = solved(mdp, ref, beta)
        excess = jnp.asarray(rng.random((20, *SHAPE)) * rng.choice([0.01, 0.3, 3.0], (20, 1, 1, 1)))
        greedy = jax.nn.log_softmax(ref + (exact.action_values + excess) / beta)
        _, value, _, laws = worth(mdp, ref, greedy, beta)
        bound = jnp.sum(laws * jnp.max(excess, -1) ** 2, (1, 2)) / (2 * beta)
        shares.append((mdp.initial @ exact.values[0] - value) / bound)
    assert np.max(shares) <= 1.0
    assert np.max(shares) > 0.05  # a bound that says something


def test_the_reduction_to_a_regularised_problem():
    """V* - V^RL <= eps_E + beta KL(expert || ref) + eps_RL, whatever policies these are.

    It is tight for the best learner, an expert who is optimal, and the soft optimum as the expert.
    """
    rng = np.random.default_rng(7)
    for seed, beta in enumerate((0.05, 0.3, 1.0)):
        mdp, ref = random_problem(20 + seed)
        drawn = jnp.asarray(np.log(rng.dirichlet(np.ones(2), size=(18, *SHAPE[:2]))))
        exact, hard = solved(mdp, ref, beta), solved(mdp, ref, 0.0)
        policies = jnp.concatenate([drawn, hard.logps[None], exact.logps[None]])
        best, soft = (mdp.initial @ found.values[0] for found in (hard, exact))
        value, penalised, kl, _ = worth(mdp, ref, policies, beta)
        # Experts down, learners across.
        bound = (best - value + beta * kl)[:, None] + soft - penalised
        slack = bound - (best - value)
        assert float(jnp.min(slack)) >= -1e-12
        np.testing.assert_allclose(slack[-1, -1], beta * kl[-1], rtol=1e-9)


@pytest.mark.long
def test_plans_of_several_are_plans_of_each():
    problems = [random_problem(seed) for seed in (30, 31)]
    mdps, refs = jax.tree.map(lambda *x: jnp.stack(x), *problems)
    counts, betas = jnp.floor(5 * mdps.transitions), jnp.array([0.0, 0.2])
    many = jax.vmap(partial(planned, bonus=NOTHING))(counts, mdps.rewards, refs, betas)
    for i, (mdp, ref) in enumerate(problems):
        one = planned(counts[i], mdp.rewards, ref, betas[i], NOTHING)
        state = ucbvi.CountState(counts[i])
        eager = ucbvi.confidence_plan(state, mdp.rewards, ref, beta=betas[i], bonus=NOTHING)
        for x, y, z in zip(many, one, eager, strict=True):
            np.testing.assert_allclose(x[i], y, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(z, y, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["variance", "visits", "width"])
def test_a_bonus_is_not_negative(name):
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, inf\), got -1"):
        Bonus(**{name: -1.0})
