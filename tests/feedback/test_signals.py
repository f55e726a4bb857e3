"""Feedback that is not a comparison: every law sums to one by enumeration, and is drawn."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.feedback import signals
from rlhf_jax.losses.feedback import rating_loss
from rlhf_jax.losses.policy_gradient import reinforce_loss

KEY = jax.random.key(5, impl="rbg")  # compiles in half the time
DRAWS = 40_000


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


def test_reactions_have_the_law_that_they_are_given():
    """One compilation gives the law, its enumeration and a sample of it."""
    values = jnp.array([0.0, 2.0, -1.0])
    intercepts = jnp.array([-3.0, -1.0, 0.5])

    @jax.jit
    def run(inverted, random, observed):
        probs = signals.reaction_probs(
            values, intercepts, beta=1.5, inverted=inverted, random=random
        )
        every = [
            signals.Reactions(jnp.full(3, said), jnp.full(3, seen))
            for said, seen in ((False, True), (True, True), (True, False))
        ]
        logliks = [signals.reaction_loglik(data, probs) for data in every]
        many = jnp.broadcast_to(probs, (DRAWS, 3))
        return probs, jnp.stack(logliks), signals.reactions(KEY, many, observed=observed)

    users = np.asarray(jax.jit(partial(signals.reaction_intercepts, count=DRAWS))(KEY))
    assert users.mean() == pytest.approx(-3.0, abs=0.03)  # sparse
    assert users.std() == pytest.approx(1.0, abs=0.03)
    honest = sigmoid(np.array([-3.0, 2.0, -1.0]))
    probs, logliks, data = jax.tree.map(np.asarray, run(0.0, 0.0, 0.4))
    np.testing.assert_allclose(probs, honest, rtol=1e-5)
    np.testing.assert_allclose(np.exp(logliks[:2]).sum(0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.exp(logliks[1]), probs, rtol=1e-5)
    np.testing.assert_array_equal(logliks[2], 0.0)  # missing is not negative
    assert data.seen.mean() == pytest.approx(0.4, abs=0.01)
    assert not data.labels[~data.seen].any()
    shares = data.labels.sum(0) / data.seen.sum(0)
    np.testing.assert_allclose(shares, honest, atol=0.015)
    contrary, _, data = jax.tree.map(np.asarray, run(1.0, 0.0, 1.0))
    np.testing.assert_allclose(contrary, 1 - honest, rtol=1e-5)
    assert data.seen.all()
    noise, _, _ = run(0.0, 1.0, 1.0)
    np.testing.assert_allclose(noise, 0.5)
    mixed, _, _ = run(0.1, 0.2, 1.0)
    np.testing.assert_allclose(mixed, 0.7 * honest + 0.1 * (1 - honest) + 0.1, rtol=1e-5)


REWARDS = np.array([[1.0, 2.0, 4.0], [3.0, np.nan, 5.0]], np.float32)
MASK = np.array([[True, True, True], [True, False, True]])


def test_credit_reaches_back_over_a_window():
    credit = jax.jit(signals.credited_rewards)
    shared = credit(REWARDS, MASK, np.array([0.5, 0.3], np.float32))
    np.testing.assert_allclose(shared, [[0.5, 1.3, 2.6], [1.5, 0.0, 2.5]], rtol=1e-6)
    at_once = credit(REWARDS, MASK, np.array([1.0, 0.0], np.float32))
    np.testing.assert_array_equal(at_once, np.where(MASK, REWARDS, 0))


def test_scalar_signals_are_least_squares():
    """Their log-density falls as the rating loss rises, and its mean is the Gaussian entropy."""

    @jax.jit
    def run(means, mask):
        shape = (DRAWS // 2, *means.shape)
        many, real = jnp.broadcast_to(means, shape), jnp.broadcast_to(mask, shape)
        drawn = signals.gaussian_signals(KEY, many, real, scale=0.5)
        loglik = signals.gaussian_loglik(drawn, many, real, scale=0.5)
        losses = jnp.where(mask, rating_loss(jnp.where(mask, many, 0.0), drawn), 0.0).sum(-1)
        silent = signals.gaussian_signals(KEY, means, mask, scale=0.0)
        return drawn, loglik, losses, silent

    drawn, loglik, losses, silent = map(np.asarray, run(REWARDS, MASK))
    np.testing.assert_array_equal(silent, np.where(MASK, REWARDS, 0))
    np.testing.assert_allclose(drawn.mean(0), silent, atol=0.02)
    np.testing.assert_allclose(drawn.std(0), np.where(MASK, 0.5, 0), atol=0.02)
    constant = -0.5 * np.log(2 * np.pi * 0.25)
    counted = MASK.sum(-1)
    np.testing.assert_allclose(loglik, counted * constant - losses / (2 * 0.25), rtol=1e-3)
    np.testing.assert_allclose(loglik.mean(0), counted * (constant - 0.5), atol=0.03)


def test_coach_praises_what_is_better_than_the_policy():
    """The mean signal is tanh(beta A / 2), and along it the policy climbs its own advantage."""
    advantages = np.array([2.0, -1.0, 0.0], np.float32)

    @jax.jit
    def run(beta):
        many = jnp.broadcast_to(advantages, (DRAWS, 3))
        drawn = signals.coach_signals(KEY, many, beta=beta)
        both = [jnp.full(3, h) for h in (1.0, -1.0)]
        shown = jnp.asarray(advantages)
        return drawn, jnp.stack([signals.coach_loglik(h, shown, beta=1.0) for h in both])

    drawn, logliks = map(np.asarray, run(1.0))
    np.testing.assert_allclose(np.exp(logliks).sum(0), 1.0, rtol=1e-6)
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    np.testing.assert_allclose(drawn.mean(0), np.tanh(advantages / 2), atol=0.02)
    np.testing.assert_allclose((drawn == 1).mean(0), np.exp(logliks[0]), atol=0.01)
    np.testing.assert_array_equal(run(np.inf)[0][0], [1.0, -1.0, -1.0])
    slope = jax.jit(jax.grad(lambda logps, h: reinforce_loss(logps, h).sum()))
    np.testing.assert_array_equal(slope(jnp.zeros(3), drawn[0]), -drawn[0])  # -h grad log pi


def test_looks_fall_on_what_matters():
    """Over every pair of looks the likelihood sums to one; a look never falls under the mask."""
    looks = jnp.array(list(itertools.product(range(3), repeat=2)))

    @jax.jit
    def run(importance, mask, beta):
        logps = signals.gaze_logps(importance, mask, beta=beta)
        loglik = signals.gaze_loglik(looks, jnp.broadcast_to(logps, (9, 3)))
        return logps, loglik, signals.gazes(KEY, logps, count=DRAWS)

    importance, mask = np.array([1.0, -2.0, np.nan], np.float32), np.array([True, True, False])
    logps, loglik, drawn = map(np.asarray, run(importance, mask, 1.0))
    want = np.array([np.e, np.e**2, 0.0]) / (np.e + np.e**2)
    np.testing.assert_allclose(np.exp(logps), want, rtol=1e-5)
    assert np.exp(loglik).sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose([(drawn == t).mean() for t in range(3)], want, atol=0.01)
    np.testing.assert_allclose(np.exp(run(importance, mask, 0.0)[0]), [0.5, 0.5, 0.0])


def test_salient_steps_count_more():
    weigh = jax.jit(signals.salient_returns)
    weights = np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]], np.float32)
    np.testing.assert_allclose(weigh(REWARDS, weights, MASK), [10.0, 8.0])


def test_a_feature_trace_is_a_fall_at_every_step():
    labels = np.array(list(itertools.product([False, True], repeat=3)))
    features = np.array([3.0, 1.0, 2.0, np.nan], np.float32)
    mask = np.array([True, True, True, False])

    @jax.jit
    def run(features, mask):
        each, real = (jnp.broadcast_to(x, (8, 4)) for x in (features, mask))
        many, there = (jnp.broadcast_to(x, (DRAWS, 4)) for x in (features, mask))
        drawn = signals.trace_labels(KEY, many, there, beta=1.5)
        return signals.trace_loglik(jnp.array(labels), each, real, beta=1.5), drawn

    loglik, drawn = map(np.asarray, run(features, mask))
    assert np.exp(loglik[::2]).sum() == pytest.approx(1.0, abs=1e-5)  # the last step is missing
    np.testing.assert_array_equal(loglik[::2], loglik[1::2])
    assert loglik[-1] == pytest.approx(np.log(sigmoid(3.0) * sigmoid(-1.5)), rel=1e-5)
    want = [sigmoid(3.0), sigmoid(-1.5), 0.0]
    np.testing.assert_allclose(drawn.mean(0), want, atol=0.01)


def test_use_and_harm_are_judged_apart():
    values, costs = np.array([0.0, 1.0], np.float32), np.array([-1.0, 2.0], np.float32)
    every = np.array(list(itertools.product([0, 1], repeat=4)))

    @jax.jit
    def run(values, costs, beta):
        labels = signals.SafetyLabels(
            jnp.array(every[:, 0]), jnp.array(every[:, 1]), jnp.array(every[:, 2:] == 1)
        )
        each = [jnp.broadcast_to(x, (16, 2)) for x in (values, costs)]
        many = [jnp.broadcast_to(x, (DRAWS, 2)) for x in (values, costs)]
        drawn = signals.safety_labels(KEY, *many, beta=beta)
        return signals.safety_loglik(labels, *each, beta=1.5), drawn

    loglik, drawn = jax.tree.map(np.asarray, run(values, costs, 1.5))
    probs = np.exp(loglik)
    assert probs.sum() == pytest.approx(1.0, abs=1e-5)
    seen = np.column_stack([drawn.better, drawn.worse, drawn.unsafe]).astype(int)
    shares = [(seen == row).all(1).mean() for row in every]
    np.testing.assert_allclose(shares, probs, atol=0.01)
    marginals = [sigmoid(1.5), sigmoid(4.5), sigmoid(-1.5), sigmoid(3.0)]
    np.testing.assert_allclose(probs @ every, marginals, rtol=1e-5)
    sure = jax.tree.map(np.asarray, run(values, costs, np.inf)[1])
    assert (sure.better == 1).all()
    assert (sure.worse == 1).all()
    assert (sure.unsafe == [False, True]).all()


def test_the_state_of_the_world_tells_of_the_past():
    """Two steps through three states by hand; a state that can't be reached has log -inf."""
    transitions = np.zeros((3, 2, 3), np.float32)
    transitions[0] = [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]
    transitions[1] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    transitions[2, :, 2] = 1.0
    policy = np.array([[0.4, 0.6], [0.25, 0.75], [0.5, 0.5]], np.float32)
    start = np.array([1.0, 0.0, 0.0], np.float32)
    look = jax.jit(signals.past_state_logps, static_argnames="steps")
    once = np.exp(look(start, transitions, np.log(policy), steps=1))
    np.testing.assert_allclose(once, [0.2, 0.8, 0.0], rtol=1e-6)
    twice = np.exp(look(start, transitions, np.log(policy), steps=2))
    np.testing.assert_allclose(twice, [0.2 * 0.2 + 0.8 * 0.25, 0.16 + 0.6, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(np.exp(look(start, transitions, np.log(policy), steps=0)), start)
