"""Reward-rational choice: one likelihood, by hand, by enumeration and against exact solutions."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.exact import finite_mdp
from rlhf_jax.feedback import choices, teachers


def normal(seed: int, *shape: int) -> jax.Array:
    """Standard normal numbers, without a program compiled for each shape."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_by_hand():
    values = jnp.array([[0.0, math.log(2.0)], [3.0, 3.0]])
    np.testing.assert_allclose(
        jnp.exp(choices.choice_logps(values, beta=2.0)), [[0.2, 0.8], [0.5, 0.5]], rtol=1e-6
    )
    found = choices.choice_loglik(values, jnp.array([1, 0]), beta=1.0)
    np.testing.assert_allclose(found, [math.log(2 / 3), math.log(1 / 2)], rtol=1e-6)


def test_two_options_are_bradley_terry_and_beta_zero_says_nothing():
    values = normal(0, 6, 2)
    labels = jnp.array([0, 1, 1, 0, 1, 0])
    np.testing.assert_allclose(
        choices.choice_loglik(values, labels, beta=1.7),
        teachers.bt_loglik(labels, values, beta=1.7),
        rtol=1e-4,
    )
    flat = choices.choice_logps(
        jnp.ones((2, 3)), jnp.array([[True] * 3, [True, False, True]]), beta=0.0
    )
    np.testing.assert_allclose(jnp.exp(flat), [[1 / 3] * 3, [0.5, 0.0, 0.5]], rtol=1e-6)


@pytest.mark.long
def test_the_gradient_is_that_of_the_likelihood_and_masked_options_never_matter():
    options = normal(1, 4, 3, 2).at[0, 2].set(jnp.nan)
    mask = jnp.ones((4, 3), bool).at[0, 2].set(False)
    theta, choice = jnp.array([0.3, -1.2]), jnp.array([0, 2, 1, 1])

    def total(theta):
        clean = jnp.where(mask[..., None], options, 0.0)
        return jnp.sum(choices.choice_loglik(clean @ theta, choice, mask, beta=2.0))

    found = choices.choice_gradient(options, theta, choice, mask, beta=2.0)
    np.testing.assert_allclose(found.sum(0), jax.grad(total)(theta), rtol=1e-5)
    values = jnp.array([0.5, jnp.nan, 1.0])
    allowed = jnp.array([True, False, True])
    assert float(choices.choice_loglik(values, jnp.array(1), allowed, beta=1.0)) == -math.inf
    slope = jax.grad(lambda v: choices.choice_loglik(v, jnp.array(0), allowed, beta=1.0))(values)
    other = 1 / (1 + math.exp(-0.5))  # P(option 2)
    np.testing.assert_allclose(slope, [other, 0.0, -other], rtol=1e-6)


def test_choices_have_the_frequencies_of_their_law():
    values, mask = jnp.array([0.0, 1.0, 5.0, 0.5]), jnp.array([True, True, False, True])
    many, masks = jnp.broadcast_to(values, (40_000, 4)), jnp.broadcast_to(mask, (40_000, 4))
    drawn = choices.sample_choice(jax.random.key(0), many, masks, beta=1.5)
    found = np.bincount(np.asarray(drawn), minlength=4) / 40_000
    np.testing.assert_allclose(
        found, jnp.exp(choices.choice_logps(values, mask, beta=1.5)), atol=0.01
    )
    sure = choices.sample_choice(jax.random.key(0), jnp.array([1.0, 2.0, 2.0]), beta=math.inf)
    assert int(sure) == 1


@pytest.mark.long
def test_a_ranking_is_repeated_choice_among_what_is_left():
    values = normal(2, 5, 4)
    ranking = teachers.pl_ranking(jax.random.key(3), values, beta=1.0)
    masks = choices.ranking_masks(ranking)
    repeated = jnp.broadcast_to(values[:, None], (5, 4, 4))
    total = choices.choice_loglik(repeated, ranking, masks, beta=1.3).sum(-1)
    np.testing.assert_allclose(total, teachers.pl_loglik(ranking, values, beta=1.3), rtol=1e-5)
    np.testing.assert_array_equal(masks.sum(-1), [[4, 3, 2, 1]] * 5)


def test_sampled_alternatives_say_nothing_by_being_there():
    """Demonstration c ~ P, alternative j ~ q: P(c | the set {c, j}) by Bayes' rule."""
    values, beta = jnp.array([0.3, -0.5, 1.0, 0.1]), 1.4
    law = np.exp(np.asarray(choices.choice_logps(values, beta=beta)))
    sampler = np.array([0.6, 0.2, 0.15, 0.05])
    for c, j in itertools.permutations(range(4), 2):
        exact = law[c] * sampler[j] / (law[c] * sampler[j] + law[j] * sampler[c])
        pair = jnp.array([c, j])
        found = choices.sampled_demonstration_loglik(
            values[pair], jnp.log(sampler)[pair], jnp.array(0), beta=beta
        )
        assert float(jnp.exp(found)) == pytest.approx(exact, rel=1e-5)


@pytest.mark.long
def test_demonstrations_and_initial_states_against_all_trajectories_of_a_world():
    """Deterministic moves: every trajectory is a choice, its partition the soft value."""
    horizon, states, actions, beta = 3, 3, 2, 1.6
    moves = np.random.default_rng(0).integers(0, states, (horizon, states, actions))
    world = FiniteMDP(
        transitions=jnp.asarray(np.eye(states, dtype=np.float32)[moves]),
        rewards=normal(1, horizon, states, actions),
        initial=jnp.array([1.0, 0.0, 0.0]),
    )
    soft = finite_mdp.soft_optimal(world, jnp.zeros((horizon, states, actions)), beta=1 / beta)
    plans = np.array(list(itertools.product(range(actions), repeat=horizon)))
    visited, returns = np.zeros((len(plans), horizon + 1), int), np.zeros(len(plans))
    rewards = np.asarray(world.rewards)
    for i, plan in enumerate(plans):
        for h, a in enumerate(plan):
            returns[i] += rewards[h, visited[i, h], a]
            visited[i, h + 1] = int(moves[h, visited[i, h], a])
    values = jnp.asarray(returns, jnp.float32)
    exact = choices.choice_logps(values, beta=beta)
    log_partition = jnp.broadcast_to(beta * soft.values[0, 0], values.shape)
    whole = choices.demonstration_loglik(values, log_partition, beta=beta)
    np.testing.assert_allclose(whole, exact, rtol=1e-4, atol=1e-5)
    q = soft.action_values[jnp.arange(horizon), visited[:, :-1]]
    stepwise = choices.action_loglik(q, jnp.asarray(plans), jnp.ones(plans.shape, bool), beta=beta)
    np.testing.assert_allclose(stepwise, exact, rtol=1e-4, atol=1e-5)
    laws = np.zeros(states)  # of the state after the last step
    np.add.at(laws, visited[:, -1], np.exp(np.asarray(exact)))
    ends = jnp.asarray(visited[:, -1] == np.arange(states)[:, None])
    everywhere = jnp.broadcast_to(values, ends.shape)
    found = choices.subset_loglik(everywhere, ends, beta=beta)
    np.testing.assert_allclose(jnp.exp(found), laws, rtol=1e-4)


@pytest.mark.long
def test_a_stop_stays_where_it_is():
    steps, stay = jnp.array([[1.0], [2.0], [4.0]]), jnp.array([[10.0], [20.0], [40.0]])
    options, allowed = choices.stop_options(steps, stay, jnp.ones(3, bool))
    assert options[:, 0].tolist() == [30.0, 1.0 + 40.0, 3.0 + 40.0, 7.0]
    assert allowed.tolist() == [True] * 4
    short, allowed = choices.stop_options(steps, stay, jnp.array([True, True, False]))
    assert short[:3, 0].tolist() == [20.0, 1.0 + 20.0, 3.0]
    assert allowed.tolist() == [True, True, True, False]
    # A reward of -1 wherever one is: stopping is no way out of it.
    same, _ = choices.stop_options(
        jnp.full((5, 1), -1.0), jnp.full((5, 1), -1.0), jnp.ones(5, bool)
    )
    np.testing.assert_allclose(same, -5.0)


def test_a_correction_bends_the_path_between_its_ends():
    path = normal(0, 6, 2)
    pushes = jnp.zeros((2, 6, 2)).at[0, 2, 0].set(1.0).at[1, 4, 1].set(-1.0)
    found = choices.corrected_paths(path, pushes)
    np.testing.assert_allclose(found[0], path)
    np.testing.assert_allclose(found[:, (0, -1)] - path[jnp.array([0, -1])], 0.0, atol=1e-6)
    second = 2 * jnp.eye(6) - jnp.eye(6, k=1) - jnp.eye(6, k=-1)  # A, away from the ends
    applied = jnp.einsum("ij,kjn->kin", second, found[1:] - path)
    np.testing.assert_allclose(applied[:, 1:-1], pushes[:, 1:-1], atol=1e-5)


def test_the_other_groundings_by_hand():
    steps = jnp.array([[1.0, 0.0], [2.0, 1.0], [4.0, -1.0]])
    times = choices.prefix_options(steps, jnp.array([0, 2, 3]))
    np.testing.assert_allclose(times, [[0, 0], [3, 1], [7, 0]])
    pair = choices.comparison_options(
        steps, 2 * steps, jnp.array([True, True, False]), jnp.ones(3, bool)
    )
    np.testing.assert_allclose(pair, [[3, 1], [14, 0]])
    critique = choices.critique_options(jnp.array([[1.0, 2.0]]), jnp.array([0.5, 0.0]))
    good = choices.choice_loglik(critique @ jnp.array([1.0, 1.0]), jnp.array([1]), beta=2.0)
    np.testing.assert_allclose(good, [-math.log1p(math.exp(-5.0))], rtol=1e-5)
    utterances = choices.expected_options(jnp.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), steps)
    np.testing.assert_allclose(utterances, [[1.5, 0.5], [4.0, -1.0]])


@pytest.mark.long
def test_jit_is_eager_and_a_batch_is_a_loop():
    values = normal(4, 3, 2, 4)
    mask = jnp.ones((3, 2, 4), bool).at[1, 1, 0].set(False)
    choice = jnp.array([[0, 1], [2, 3], [1, 1]])

    def run(values, choice, mask):
        return choices.choice_loglik(values, choice, mask, beta=1.2)

    whole = run(values, choice, mask)
    np.testing.assert_allclose(jax.jit(run)(values, choice, mask), whole, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(run)(values, choice, mask), whole, rtol=1e-6)
    rows = [jax.jit(run)(values[i], choice[i], mask[i]) for i in range(3)]
    np.testing.assert_allclose(np.stack(rows), whole, rtol=1e-6)
