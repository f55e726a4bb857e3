"""Win rates, exploitability and duality gaps against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.ops.games import (
    exploitability,
    regularised_best_response,
    regularised_gap,
    regularised_payoff,
    win_rate,
    win_rates,
)

RPS = jnp.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
some_games = settings(derandomize=True, deadline=None, max_examples=10)
temperatures = st.sampled_from([0.01, 0.1, 1.0, 10.0])


@pytest.fixture(autouse=True, scope="module")
def double():
    with jax.enable_x64(True):
        yield


def case(seed, n=6, policies=3):
    """A game [n, n] and policies [policies, n], as float64 log-probabilities."""
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.uniform(size=(n, n)), -1)
    game = lower + np.triu(1.0 - lower.T, 1) + 0.5 * np.eye(n)
    logits = jnp.asarray(rng.standard_normal((policies, n)) * rng.uniform(0.1, 5.0))
    return jnp.asarray(game), jax.nn.log_softmax(logits)


def kl(logps, other_logps):
    return np.sum(np.exp(logps) * (logps - other_logps))


def test_golden_numbers():
    ref = jax.nn.log_softmax(jnp.array([0.7, 0.0, -0.7]))
    logps = jax.nn.log_softmax(jnp.array([0.3, -0.2, 0.1]))
    np.testing.assert_allclose(regularised_gap(RPS, ref, ref, beta=0.1), 0.11837092, atol=5e-9)
    np.testing.assert_allclose(regularised_gap(RPS, logps, ref, beta=0.1), 0.00050226, atol=5e-9)
    np.testing.assert_allclose(exploitability(RPS, jnp.exp(logps)), 0.16223791, atol=5e-9)
    # By hand: against (1/2, 1/2, 0), answer 0 wins 1/4 + 1/2, 1 wins 1/4, 2 wins 1/2.
    half = jnp.array([0.5, 0.5, 0.0])
    np.testing.assert_allclose(win_rates(RPS, half), [0.75, 0.25, 0.5])
    np.testing.assert_allclose(exploitability(RPS, half), 0.5)


def test_the_second_elo_policy_loses_although_its_score_is_higher():
    """Scores (0, log 9, log 2): (2/3, 1/3, 0) has the higher mean, (0, 0, 1) wins 50 of 99."""
    ratings = jnp.array([1.0, 9.0, 2.0])
    game = ratings[:, None] / (ratings[:, None] + ratings[None, :])
    first, second = jnp.array([2 / 3, 1 / 3, 0.0]), jnp.array([0.0, 0.0, 1.0])
    assert float(first @ jnp.log(ratings)) > float(second @ jnp.log(ratings))
    np.testing.assert_allclose(win_rate(game, second, first), 50 / 99, rtol=1e-14)
    np.testing.assert_allclose(win_rate(game, first, second), 49 / 99, rtol=1e-14)


@some_games
@given(seed=st.integers(0, 10**6))
def test_exploitability_is_the_duality_gap_over_pure_answers(seed):
    game, logps = case(seed)
    probs, rows = jnp.exp(logps[0]), np.asarray(game)
    best = max(row @ probs for row in rows)
    worst = min(probs @ column for column in rows.T)
    np.testing.assert_allclose(exploitability(game, probs), best - worst, rtol=1e-12)
    assert 0.0 <= float(exploitability(game, probs)) <= 1.0


@some_games
@given(seed=st.integers(0, 10**6), beta=temperatures)
def test_the_regularised_payoff_is_constant_sum(seed, beta):
    game, (one, other, ref) = case(seed)
    forth = regularised_payoff(game, one, other, ref, beta=beta)
    back = regularised_payoff(game, other, one, ref, beta=beta)
    by_hand = np.exp(one) @ game @ np.exp(other) - beta * (kl(one, ref) - kl(other, ref))
    np.testing.assert_allclose(forth, by_hand, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(forth + back, 1.0, atol=1e-12)
    np.testing.assert_allclose(regularised_payoff(game, one, one, ref, beta=beta), 0.5, atol=1e-12)


@pytest.mark.long
@some_games
@given(seed=st.integers(0, 10**6), beta=temperatures)
def test_the_regularised_gap_is_what_both_players_gain(seed, beta):
    game, (logps, other, ref) = case(seed)
    best = regularised_best_response(game, logps, ref, beta=beta)
    upper = regularised_payoff(game, best, logps, ref, beta=beta)
    lower = regularised_payoff(game, logps, best, ref, beta=beta)
    gap = float(regularised_gap(game, logps, ref, beta=beta))
    np.testing.assert_allclose(gap, upper - lower, rtol=1e-9, atol=1e-12)
    # The other closed form, and no other policy gains more.
    wins = np.asarray(game) @ np.exp(logps)
    log_z = jax.nn.logsumexp(ref + wins / beta)
    np.testing.assert_allclose(
        gap, 2 * (beta * log_z - 0.5 + beta * kl(logps, ref)), rtol=1e-9, atol=1e-12
    )
    assert float(regularised_payoff(game, other, logps, ref, beta=beta)) <= float(upper) + 1e-12


def test_a_gap_far_below_the_rounding_of_a_half_is_seen():
    """Uniform is Nash, and the gap is quadratic in the distance from it."""
    ref = jnp.full(3, -jnp.log(3.0))
    tilt = jnp.array([1.0, -1.0, 0.0])
    far, near = (regularised_gap(RPS, ref + d * tilt, ref, beta=0.1) for d in (1e-3, 1e-11))
    np.testing.assert_allclose(near / far, 1e-16, rtol=1e-2)


def test_answers_that_the_reference_never_gives():
    ref = jnp.log(jnp.array([0.5, 0.5, 0.0]))
    inside = jnp.log(jnp.array([0.25, 0.75, 0.0]))
    gap = regularised_gap(RPS, inside, ref, beta=0.5)
    small = regularised_gap(RPS[:2, :2], inside[:2], ref[:2], beta=0.5)
    np.testing.assert_allclose(gap, small, rtol=1e-12)
    outside = jnp.log(jnp.array([0.25, 0.5, 0.25]))
    assert float(regularised_gap(RPS, outside, ref, beta=0.5)) == np.inf
    # The policy has left out what the reference gives: finite.
    pure = jnp.log(jnp.array([1.0, 0.0, 0.0]))
    with_mass = regularised_gap(RPS, pure, jnp.full(3, -jnp.log(3.0)), beta=1.0)
    # beta log((e^.5 + e^0 + e^1) / 3) - 1/2 + log 3, twice
    by_hand = 2 * (np.log(np.exp([0.5, 0.0, 1.0]).sum() / 3) - 0.5 + np.log(3))
    np.testing.assert_allclose(with_mass, by_hand, rtol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("beta", [1e-6, 1e3])
def test_gaps_stay_finite_at_extreme_temperatures(beta):
    game, (logps, _, ref) = case(0)
    value, slope = jax.value_and_grad(regularised_gap, argnums=1)(game, logps, ref, beta=beta)
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))
    if beta == 1e-6:  # the KL of one nat or so is all that is lost of the exploitability
        np.testing.assert_allclose(value, exploitability(game, jnp.exp(logps)), rtol=1e-4)


def test_the_gradient_of_the_gap_is_that_of_its_other_form():
    game, (logps, _, ref) = case(1)

    def other_form(logits):
        logps = jax.nn.log_softmax(logits)
        log_z = jax.nn.logsumexp(ref + game @ jnp.exp(logps) / 0.3)
        return 2 * 0.3 * (log_z + jnp.sum(jnp.exp(logps) * (logps - ref)))

    def gap(logits):
        return regularised_gap(game, jax.nn.log_softmax(logits), ref, beta=0.3)

    np.testing.assert_allclose(jax.grad(gap)(logps), jax.grad(other_form)(logps), atol=1e-12)


@pytest.mark.long
def test_leading_axes_broadcast_and_jit_is_eager():
    games, policies, ref = [], [], case(9)[1][0]
    for seed in range(2):
        game, logps = case(seed)
        games.append(game)
        policies.append(logps)
    games, policies = jnp.stack(games), jnp.stack(policies)  # [2, n, n], [2, 3, n]
    probs = jnp.exp(policies)
    metrics = {
        "gap": lambda game, logps: regularised_gap(game, logps, ref, beta=0.2),
        "exploitability": lambda game, logps: exploitability(game, jnp.exp(logps)),
        "payoff": lambda game, logps: regularised_payoff(game, logps, ref, ref, beta=0.2),
        "win_rate": lambda game, logps: win_rate(game, jnp.exp(logps), jnp.exp(ref)),
    }
    for name, metric in metrics.items():
        loop = [[metric(games[g], policies[g, t]) for t in range(3)] for g in range(2)]
        batch = metric(games[:, None], policies)
        np.testing.assert_allclose(batch, loop, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(jax.jit(metric)(games[:, None], policies), loop, rtol=1e-12)
    # one game, the policies of a run
    run = exploitability(games[0], probs[0])
    np.testing.assert_allclose(run, exploitability(games[:, None], probs)[0], rtol=1e-12)
