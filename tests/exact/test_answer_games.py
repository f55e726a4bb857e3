"""Exploitability of sampled answers: games known by hand, and what sampling does to the mean."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.games import bradley_terry_game, rock_paper_scissors
from rlhf_jax.exact.answer_games import crossfit_gaps, solve_answer_games, summarise

RPS = np.asarray(rock_paper_scissors(), np.float64)  # 0 beats 1 beats 2 beats 0


def pool(game, answers):
    """Preferences among answers [N, M] that are types of one game."""
    return game[answers[:, :, None], answers[:, None, :]]


def solve(game, answers, own):
    return solve_answer_games(pool(game, np.array([answers])), np.array([own]))


def test_a_uniform_sample_of_a_circle_cannot_be_exploited():
    games = solve(RPS, [0, 1, 2, 0, 1, 2], [1, 1, 1, 0, 0, 0])
    assert games.gap[0] == pytest.approx(0.0)
    np.testing.assert_allclose(games.nash, [[1 / 3, 1 / 3, 1 / 3, 0, 0, 0]], atol=1e-8)
    assert games.nash_win_rate[0] == pytest.approx(0.5)
    assert games.cycle[0]
    assert not games.condorcet[0]


def test_one_answer_always_is_fully_exploited_where_another_beats_it():
    games = solve(RPS, [0, 0, 1, 2], [True, True, False, False])
    assert games.gap[0] == pytest.approx(1.0)
    assert games.crossfit_gap[0] == pytest.approx(1.0)
    np.testing.assert_allclose(games.nash, [[1 / 3, 0, 1 / 3, 1 / 3]], atol=1e-8)


def test_two_thirds_and_weights():
    """Against 2/3 of 0 and 1/3 of 1 answer 2 wins 2/3: gap 1/3."""
    samples = solve(RPS, [0, 0, 1, 2], [1, 1, 1, 0])
    weights = solve(RPS, [0, 1, 2], [2.0, 1.0, 0.0])
    for games in (samples, weights):
        assert games.gap[0] == pytest.approx(1 / 3)
    # Halves (0, 1) and (0): against the first, 0 without the second half's own wins 3/4, and 1/2
    # against the second; against the second, 2 wins 1, and 1/2 against the first.
    assert samples.crossfit_gap[0] == pytest.approx(0.0)


def test_a_best_answer_given_twice_is_still_a_winner():
    game = np.asarray(bradley_terry_game(jnp.arange(3.0)), np.float64)
    games = solve(game, [2, 0, 1, 2], [0, 1, 1, 0])
    assert games.condorcet[0]
    assert not games.cycle[0]
    np.testing.assert_allclose(games.nash, [[1, 0, 0, 0]], atol=1e-8)
    want = np.mean(1 / (1 + np.exp([-2.0, -1.0])))
    assert games.nash_win_rate[0] == pytest.approx(want, abs=1e-6)
    assert games.gap[0] == pytest.approx(2 * want - 1, abs=1e-6)


def test_a_tie_of_different_answers_has_no_winner():
    game = np.array([[0.5, 0.5, 0.9], [0.5, 0.5, 0.7], [0.1, 0.3, 0.5]])
    games = solve(game, [0, 1, 2], [0, 1, 1])
    assert not games.condorcet[0]
    assert not games.cycle[0]


def sampled(probs, draws, others, prompts, seed=0):
    """Pools of `draws` samples of a policy over a circle, and the same others; samples' mask."""
    rng = np.random.default_rng(seed)
    own = rng.choice(3, size=(prompts, draws), p=probs)
    rest = np.tile(np.array(others, int), (prompts, 1))
    mask = np.arange(draws + len(others)) < draws
    return pool(RPS, np.concatenate([own, rest], 1)), np.tile(mask, (prompts, 1))


def mean_and_error(gaps):
    return gaps.mean(), gaps.std(ddof=1) / len(gaps) ** 0.5


@pytest.mark.parametrize("probs", [(1 / 3, 1 / 3, 1 / 3), (0.5, 0.3, 0.2), (0.8, 0.1, 0.1)])
@pytest.mark.parametrize("others", [[], [0, 1, 2]])
@pytest.mark.parametrize("draws", [2, 5])
def test_the_crossfitted_mean_never_exceeds_the_truth(probs, others, draws):
    truth = 2 * np.max(RPS @ np.array(probs)) - 1
    prefs, own = sampled(probs, draws, others, 20_000)
    mean, error = mean_and_error(crossfit_gaps(prefs, own))
    assert error < 0.01
    assert mean <= truth + 3 * error + 1e-12


def test_the_plain_mean_does_exceed_the_truth():
    """A uniform sampler of a circle is a Nash policy; five samples of it are not."""
    games = solve_answer_games(*sampled((1 / 3, 1 / 3, 1 / 3), 5, [0, 1, 2], 100))
    mean, error = mean_and_error(games.gap)
    assert mean > 10 * error
    assert mean > 0.2
    mean, error = mean_and_error(games.crossfit_gap)
    assert abs(mean) < 3 * error


def test_many_samples_give_the_truth():
    """Where the best answer is far better than the next, so that it is always chosen."""
    mean, error = mean_and_error(crossfit_gaps(*sampled((0.8, 0.1, 0.1), 100, [0, 1, 2], 200)))
    assert abs(mean - 0.7) < 3 * error < 0.05


def test_shares_and_intervals_are_those_of_what_was_put_in():
    line = np.asarray(bradley_terry_game(jnp.arange(3.0)), np.float64)
    prefs = np.stack([RPS] * 3 + [line] * 7)
    table = summarise(solve_answer_games(prefs, np.ones((10, 3), bool)))
    half = 1.959963984540054 * np.sqrt(0.3 * 0.7 / 9)
    np.testing.assert_allclose(table["cycle"], [0.3, 0.3 - half, 0.3 + half], atol=1e-6)
    np.testing.assert_allclose(table["condorcet"], [0.7, 0.7 - half, 0.7 + half], atol=1e-6)
    assert set(table) == {"gap", "crossfit_gap", "nash_win_rate", "cycle", "condorcet"}
    assert all(column.shape == (3,) for column in table.values())


@pytest.mark.parametrize(
    ("prefs", "own", "message"),
    [
        (RPS[None], [[1, 0, 0]], "row 0: needs at least 2 samples of the policy, got 1"),
        (RPS[None], [[1, -1, 1]], "row 0: weights must be finite and >= 0"),
        (RPS[None], [[1, 1]], r"got \(1, 3, 3\) and \(1, 2\)"),
        (RPS, [1, 1, 1], r"expected preferences \[N, M, M\]"),
        (RPS[None] * 1.5, [[1, 1, 1]], r"a probability in \[0, 1\]"),
    ],
)
def test_bad_input_is_refused(prefs, own, message):
    with pytest.raises(ValueError, match=message):
        crossfit_gaps(prefs, np.array(own))
