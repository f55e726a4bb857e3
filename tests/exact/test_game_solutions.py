"""Exact Nash policies: golden numbers, theorems, and solvers of another kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.special import log_softmax

from rlhf_jax.envs.games import (
    asymmetric_cycle,
    bradley_terry_game,
    condorcet_game,
    dice_game,
    low_rank_game,
    random_game,
    random_reference,
    rock_paper_scissors,
    skew_game,
    three_types,
    tilted_reference,
)
from rlhf_jax.exact.nash import (
    certify_nash,
    game_name,
    maximal_lotteries,
    nash_lp,
    skew_part,
)
from rlhf_jax.exact.regularised_nash import regularised_nash
from rlhf_jax.ops.games import exploitability, regularised_gap, regularised_payoff
from rlhf_jax.ops.kl import exact_kl

BETAS = np.array([1e-3, 1e-2, 0.1, 1.0, 10.0])
N = 6
some_games = settings(derandomize=True, deadline=None, max_examples=8)
seeds = given(seed=st.integers(0, 10**6))


@pytest.fixture(autouse=True, scope="module")
def double():
    with jax.enable_x64(True):
        yield


@jax.jit
def games_of(seed):
    """One game of each drawn kind [4, N, N], and references [4, N]."""
    key, ref_key = jax.random.split(jax.random.key(seed))
    games = [random_game(key, N), skew_game(key, N), low_rank_game(key, N)]
    games.append(condorcet_game(key, N, gap=0.1))
    return jnp.stack(games), random_reference(jax.random.split(ref_key, 4), N)


def residual(game, logps, ref_logps, beta):
    """In NumPy, of one game."""
    best = log_softmax(log_softmax(ref_logps) + game @ np.exp(logps) / beta)
    return np.max(np.abs(logps - best))


# ---- Linear programs.


@pytest.mark.parametrize(
    ("game", "nash_probs"),
    [
        (lambda: rock_paper_scissors(1.0), [1 / 3, 1 / 3, 1 / 3]),
        (dice_game, [1 / 3, 1 / 3, 1 / 3]),
        (asymmetric_cycle, [4 / 9, 1 / 9, 4 / 9]),
        (lambda: three_types(-0.1), [1 / 3 - 0.05, 1 / 3 - 0.05, 1 / 3 + 0.1]),
        (lambda: three_types(0.2), [1 / 3 + 0.1, 1 / 3 + 0.1, 1 / 3 - 0.2]),
        (lambda: bradley_terry_game(jnp.array([0.3, 1.1, -2.0])), [0, 1, 0]),
        (lambda: condorcet_game(jax.random.key(0), 3, gap=0.05), [1, 0, 0]),
        (lambda: jnp.array([[0.5]]), [1]),
    ],
)
def test_nash_policies_known_in_closed_form(game, nash_probs):
    probs, certificate = nash_lp(game())
    np.testing.assert_allclose(probs, nash_probs, atol=1e-12)
    assert certificate.violation < 1e-12
    lottery, lotteries = maximal_lotteries(game())
    np.testing.assert_allclose(lottery, nash_probs, atol=1e-12)
    np.testing.assert_array_equal(lotteries.support, np.array(nash_probs) > 0)
    assert lotteries.dimension == 0


@pytest.mark.long
@some_games
@seeds
def test_the_certificate_bounds_the_exploitability(seed):
    games, _ = games_of(seed)
    probs, certificate = nash_lp(games)
    assert np.max(certificate.violation) < 1e-10
    assert np.max(certificate.negativity) == 0.0
    assert np.max(certificate.sum_error) < 1e-15
    np.testing.assert_allclose(exploitability(games, jnp.asarray(probs)), 0.0, atol=1e-10)


def test_a_certificate_measures_what_is_wrong():
    game = rock_paper_scissors(jnp.array([1.0, 0.5]))
    certificate = certify_nash(game, np.array([[0.5, 0.5, 0.0], [1.5, -0.25, 0.0]]))
    # Answer 0 beats (1/2, 1/2, 0) with chance 3/4; all ties in the second game.
    np.testing.assert_allclose(certificate.violation, [0.25, 0.0])
    np.testing.assert_array_equal(certificate.negativity, [0.0, 0.25])
    np.testing.assert_allclose(certificate.sum_error, [0.0, 0.25])


def test_margins_are_skew_symmetric_to_the_last_digit():
    # 0.7 and 0.3 in float32 do not add up to 1: (0.7 - 0.3) / 2 = 0.2 all the same
    prefs = np.array([[0.5, 0.7], [0.3, 0.5]], np.float32)
    skew = skew_part(prefs)
    np.testing.assert_allclose(skew, [[0.0, 0.2], [-0.2, 0.0]], atol=1e-7)
    np.testing.assert_array_equal(skew, -skew.T)


def test_a_game_is_named_by_its_place():
    assert [game_name(index) for index in ((), (3,), (1, 2))] == [
        "the game",
        "game 3",
        "game (1, 2)",
    ]


def test_games_are_solved_one_by_one_over_any_leading_axes():
    keys = jax.random.split(jax.random.key(1), (2, 3))
    games = np.asarray(random_game(keys, 4))
    for solve in (nash_lp, maximal_lotteries):
        probs, details = solve(games)
        assert probs.shape == (2, 3, 4)
        assert probs.dtype == np.float64
        for index in np.ndindex(2, 3):
            alone, alone_details = solve(games[index])
            np.testing.assert_array_equal(probs[index], alone)
            for field, of_one in zip(details, alone_details, strict=True):
                np.testing.assert_array_equal(field[index], of_one)


def extent(game):
    """Largest range of a coordinate over all Nash policies, by two programs for each."""
    n = len(game)
    skew = game - 0.5
    ends = []
    for sign in (1, -1):
        for row in sign * np.eye(n):
            found = linprog(row, A_ub=skew, b_ub=np.zeros(n), A_eq=np.ones((1, n)), b_eq=[1])
            ends.append(sign * found.fun)
    least, most = np.reshape(ends, (2, n))
    return np.max(most - least), most > 1e-7


def sure_game(seed, n, tie):
    """Wins, losses and, more or less often, ties: full of games with many Nash policies."""
    rng = np.random.default_rng(seed)
    signs = np.tril(rng.choice([-1, 0, 1], size=(n, n), p=[(1 - tie) / 2, tie, (1 - tie) / 2]), -1)
    return 0.5 + 0.5 * (signs - signs.T)


@pytest.mark.parametrize("tie", [0.0, 0.3, 0.7])
def test_uniqueness_against_programs_for_every_coordinate(tie):
    many = 0
    for seed in range(8):
        game = sure_game(seed, 6, tie)
        _, lotteries = maximal_lotteries(game)
        width, reached = extent(game)
        assert (lotteries.dimension > 0) == (width > 1e-7), seed
        assert lotteries.dimension >= 0
        np.testing.assert_array_equal(lotteries.support, reached)
        many += lotteries.dimension > 0
    if tie > 0:
        assert many > 0


def test_dimensions_of_known_sets_of_lotteries():
    ties = np.full((4, 4), 0.5)
    probs, lotteries = maximal_lotteries(ties)
    np.testing.assert_allclose(probs, 0.25)
    assert lotteries.dimension == 3
    # Two copies of an answer: all ways to share out its third.
    cycle = np.asarray(rock_paper_scissors())
    copied = cycle[np.ix_([0, 1, 2, 2], [0, 1, 2, 2])]
    probs, lotteries = maximal_lotteries(copied)
    np.testing.assert_allclose(probs, [1 / 3, 1 / 3, 1 / 6, 1 / 6])
    assert lotteries.dimension == 1
    # A win by 1e-9 cannot be told from a tie beside wins of a usual size.
    close = np.array([[0.5, 0.5 + 1e-9, 0.9], [0.5 - 1e-9, 0.5, 0.9], [0.1, 0.1, 0.5]])
    assert maximal_lotteries(close)[1].dimension == -1


@pytest.mark.parametrize("scale", [1e-4, 1e-9, 1e-12])
def test_nash_policies_do_not_depend_on_the_scale_of_the_margins(scale):
    """float64 holds P to 1e-16, and so a game of that scale to 1e-16 / scale."""
    close = 0.5 + scale * (np.asarray(asymmetric_cycle()) - 0.5)
    games = np.stack([close, np.full((3, 3), 0.5)])
    for solve in (nash_lp, maximal_lotteries):
        probs, details = solve(games)
        np.testing.assert_allclose(probs[0], [4 / 9, 1 / 9, 4 / 9], atol=1e-14 / scale)
        assert np.all(details.violation <= 1e-8 * scale)
    np.testing.assert_array_equal(maximal_lotteries(games)[1].support, True)
    np.testing.assert_allclose(probs[1], 1 / 3)


def test_single_precision_games_have_exact_lotteries_too():
    with jax.enable_x64(False):
        game = asymmetric_cycle()
        assert game.dtype == jnp.float32
    probs, certificate = nash_lp(game)
    np.testing.assert_allclose(probs, [4 / 9, 1 / 9, 4 / 9], atol=1e-7)
    assert certificate.violation < 1e-12


def test_a_program_that_fails_names_its_game(monkeypatch):
    class Failed:
        x, message = None, "out of time"

    monkeypatch.setattr("scipy.optimize.linprog", lambda *args, **kwargs: Failed)
    with pytest.raises(RuntimeError, match=r"game 0: the linear program was not .*out of time"):
        nash_lp(np.full((2, 3, 3), 0.5))


def test_a_program_whose_policy_loses_names_its_game(monkeypatch):
    class Wrong:
        x = np.array([0.5, 0.5, 0.0, 0.0])

    monkeypatch.setattr("scipy.optimize.linprog", lambda *args, **kwargs: Wrong)
    games = np.asarray(rock_paper_scissors(jnp.array([0.5, 0.75])))
    with pytest.raises(RuntimeError, match=r"game 1: .* loses by 1.2e-01"):
        nash_lp(games)


# ---- Regularised games.


def test_regularised_golden_numbers():
    game, ref = rock_paper_scissors(), tilted_reference()
    expected = {
        0.1: [0.40219137, 0.24961041, 0.34819822],
        1.0: [0.59654127, 0.23227535, 0.17118338],
        0.01: [0.33827612, 0.32401111, 0.33771277],
    }
    logps = regularised_nash(game, ref, beta=np.array(list(expected)))
    np.testing.assert_allclose(np.exp(logps), list(expected.values()), atol=5e-9)
    assert logps.dtype == np.float64
    np.testing.assert_allclose(exact_kl(jnp.asarray(logps[0]), ref), 0.13782414, atol=5e-9)


@pytest.mark.long
@some_games
@seeds
def test_regularised_fixed_point_payoff_identity_and_bounds(seed):
    games, refs = games_of(seed)
    logps = regularised_nash(games[:, None], refs[:, None], beta=BETAS)
    assert logps.shape == (4, len(BETAS), N)
    for g, b in np.ndindex(4, len(BETAS)):
        assert residual(games[g], logps[g, b], refs[g], BETAS[b]) < 2e-12
    # J(pi*, pi) = 1/2 + beta KL(pi || pi*), and gap >= 2 beta KL(pi || pi*), for every policy
    policies = random_reference(jax.random.key(seed), N)
    for b, beta in enumerate(BETAS):
        solution = jnp.asarray(logps[:, b])
        kl = exact_kl(jnp.broadcast_to(policies, (4, N)), solution)
        payoff = regularised_payoff(games, solution, policies, refs, beta=beta)
        np.testing.assert_allclose(payoff, 0.5 + beta * kl, rtol=1e-11, atol=1e-12)
        gaps = regularised_gap(games, policies, refs, beta=beta)
        assert np.all(gaps >= 2 * beta * kl * (1 - 1e-12))
    # gap(pi*) <= 2 beta max log(1 / mu), which is 2 beta log n from a uniform reference
    bound = 2 * BETAS * np.max(-refs, axis=-1)[:, None]
    assert np.all(exploitability(games[:, None], jnp.exp(logps)) <= bound + 1e-12)
    uniform = regularised_nash(games[:, None], np.zeros(N), beta=BETAS)
    gaps = exploitability(games[:, None], jnp.exp(uniform))
    assert np.all(gaps <= 2 * BETAS * np.log(N) + 1e-12)


def test_the_limits_of_the_temperature_are_nash_and_the_reference():
    game, ref = asymmetric_cycle(), tilted_reference()
    cold, hot = regularised_nash(game, ref, beta=np.array([1e-3, 1e6]))
    np.testing.assert_allclose(np.exp(cold), nash_lp(game)[0], atol=0.01)
    np.testing.assert_allclose(hot, ref, atol=1e-6)


def test_the_regularised_policy_of_bradley_terry_is_not_that_of_rlhf():
    scores, ref = jnp.array([2.0, 0.0, -1.0]), np.zeros(3)
    logps = regularised_nash(bradley_terry_game(scores), ref, beta=0.5)
    optimum = jax.nn.log_softmax(scores / 0.5)
    assert np.argmax(logps) == 0
    assert float(exact_kl(optimum, jnp.asarray(logps))) > 0.05


@pytest.mark.long
def test_answers_that_the_reference_never_gives_are_left_out():
    games, refs = games_of(3)
    refs = refs.at[:, jnp.array([1, 4])].set(-jnp.inf)
    kept = np.array([0, 2, 3, 5])
    logps = regularised_nash(games, refs, beta=0.02)
    assert np.all(logps[:, [1, 4]] == -np.inf)
    inside = regularised_nash(games[:, kept][:, :, kept], refs[:, kept], beta=0.02)
    np.testing.assert_allclose(logps[:, kept], inside, atol=1e-11)


@pytest.mark.long
def test_a_batch_of_games_is_a_loop():
    games, refs = games_of(4)
    logps = regularised_nash(games, refs, beta=0.01)
    alone = [regularised_nash(game, ref, beta=0.01) for game, ref in zip(games, refs, strict=True)]
    np.testing.assert_allclose(logps, alone, atol=1e-11)


@pytest.mark.long
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_hard_games_are_solved(scale):
    """Sure wins and ties, references down to e^-300, the smallest beta; one round is not enough."""
    games = np.stack([sure_game(seed, 8, 0.3) for seed in range(10)])
    refs = scale * np.random.default_rng(0).standard_normal((10, 8))
    logps = regularised_nash(games, refs, beta=1e-3)
    assert max(map(residual, games, logps, refs, np.full(10, 1e-3))) < 2e-12


@pytest.mark.slow
def test_a_game_of_a_thousand_answers_is_solved():
    game = np.asarray(skew_game(jax.random.key(5), 1000))
    ref = np.asarray(random_reference(jax.random.key(6), 1000))
    for beta in (1e-3, 0.1, 10.0):
        assert residual(game, regularised_nash(game, ref, beta=beta), ref, beta) < 2e-12


@pytest.mark.parametrize("solve", [nash_lp, maximal_lotteries, None])
def test_a_matrix_that_is_no_game_is_refused_by_every_solver(solve):
    games = np.full((2, 3, 3), 0.5)
    games[1, 0, 1] = 0.9
    solve = solve or (lambda games: regularised_nash(games, np.zeros(3), beta=0.1))
    with pytest.raises(ValueError, match=r"game 1: P\(row 0 beats column 1\) = 0.9, .*P\^T = 1"):
        solve(games)


@pytest.mark.parametrize("beta", [0.0, -1.0, np.nan, np.inf])
def test_a_wrong_temperature_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be positive and finite"):
        regularised_nash(np.full((3, 3), 0.5), np.zeros(3), beta=beta)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_wrong_reference_is_refused(bad):
    with pytest.raises(ValueError, match="log mu must be finite"):
        regularised_nash(np.full((3, 3), 0.5), np.full(3, bad), beta=0.1)
    with pytest.raises(ValueError, match="log mu has 2 answers, the games have 3"):
        regularised_nash(np.full((3, 3), 0.5), np.zeros(2), beta=0.1)


@pytest.mark.long
def test_a_tolerance_that_cannot_be_met_is_an_error_that_names_the_game():
    games, refs = games_of(7)
    with pytest.raises(RuntimeError, match=r"game \(\d, \d\) at beta = 0\.0+1: residual .*1e-17"):
        regularised_nash(games[:, None], refs[:, None], beta=BETAS[:2], tolerance=1e-17)
