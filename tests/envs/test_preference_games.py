"""The matrices of the games, and the refusal of what is not one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.games import (
    asymmetric_cycle,
    bradley_terry_game,
    check_prefs,
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

DRAWN = {
    "random": random_game,
    "skew": skew_game,
    "low_rank": low_rank_game,
    "condorcet": partial(condorcet_game, gap=0.2),
}
every_drawn_game = pytest.mark.parametrize("make", DRAWN.values(), ids=DRAWN.keys())


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def test_rock_paper_scissors_golden_numbers():
    hard = [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
    np.testing.assert_array_equal(rock_paper_scissors(), hard)
    soft = [[0.5, 0.75, 0.25], [0.25, 0.5, 0.75], [0.75, 0.25, 0.5]]
    both = rock_paper_scissors(jnp.array([0.75, 0.5]))
    np.testing.assert_array_equal(both, [soft, np.full((3, 3), 0.5)])


def test_asymmetric_cycle_golden_numbers():
    game = asymmetric_cycle()
    np.testing.assert_array_equal([game[0, 1], game[1, 2], game[2, 0]], [0.9, 0.9, 0.6])


def test_dice_by_their_faces():
    np.testing.assert_allclose(dice_game(), rock_paper_scissors(5 / 9), rtol=1e-15)
    # {1, 3} against {2, 3}: 1 < 2, 1 < 3, 3 > 2 and 3 = 3, so (0 + 0 + 1 + 1/2) / 4.
    ties = dice_game(jnp.array([[1.0, 3.0], [2.0, 3.0]]))
    np.testing.assert_array_equal(ties, [[0.5, 0.375], [0.625, 0.5]])
    sure = dice_game(jnp.array([[jnp.inf, 3.0], [jnp.inf, 2.0]]))
    np.testing.assert_allclose(sure, [[0.5, 0.625], [0.375, 0.5]])  # 1/2, 1, 0, 1
    both = dice_game(jnp.array([[[1.0, 3.0], [2.0, 3.0]], [[0.0, 0.0], [1.0, 1.0]]]))
    np.testing.assert_array_equal(both, [ties, [[0.5, 0.0], [1.0, 0.5]]])


@pytest.mark.parametrize("eps", [-0.1, 0.0, 0.2])
def test_three_types_by_their_judges(eps):
    """Each type's own matrix, weighted by its share."""
    pairs = [(1, 0), (0, 2), (2, 1)]
    types = np.full((3, 3, 3), 0.5)
    for index, (winner, loser) in enumerate(pairs):
        types[index, winner, loser], types[index, loser, winner] = 1.0, 0.0
    shares = [1 / 3 - eps, 1 / 3 + eps / 2, 1 / 3 + eps / 2]
    game = three_types(eps)
    np.testing.assert_allclose(game, np.tensordot(shares, types, axes=1), rtol=1e-14)
    np.testing.assert_allclose(game[1, 0], 2 / 3 - eps / 2)
    np.testing.assert_array_equal(three_types(jnp.array([eps, 0.1]))[0], game)


def test_bradley_terry_game_of_elo_ratings():
    game = bradley_terry_game(jnp.log(jnp.array([1.0, 9.0, 2.0])))
    np.testing.assert_allclose(game[1], [9 / 10, 1 / 2, 9 / 11], rtol=1e-14)


@every_drawn_game
def test_drawn_games_are_games(make):
    games = make(jax.random.split(jax.random.key(0), (2, 3)), 6)
    assert games.shape == (2, 3, 6, 6)
    assert games.dtype == jnp.float64
    np.testing.assert_array_equal(check_prefs(games), games)
    np.testing.assert_allclose(games + jnp.swapaxes(games, -1, -2), 1.0, atol=1e-15)
    assert float(jnp.std(games)) > 0.1


@pytest.mark.long
@every_drawn_game
def test_a_batch_of_games_is_a_loop_and_jits(make):
    keys = jax.random.split(jax.random.key(1), (2, 2))
    loop = [[make(keys[i, j], 5) for j in range(2)] for i in range(2)]
    np.testing.assert_array_equal(make(keys, 5), loop)
    np.testing.assert_array_equal(jax.vmap(jax.vmap(lambda key: make(key, 5)))(keys), loop)
    np.testing.assert_allclose(jax.jit(lambda key: make(key, 5))(keys), loop, rtol=1e-13)


@every_drawn_game
def test_games_are_complementary_in_single_precision(make):
    with jax.enable_x64(False):
        games = make(jax.random.split(jax.random.key(2), 4), 20)
        assert games.dtype == jnp.float32
        check_prefs(games, atol=1e-7)


def test_random_game_is_uniform():
    games = random_game(jax.random.split(jax.random.key(3), 500), 5)
    lower = np.sort(np.asarray(games)[:, *np.tril_indices(5, -1)].ravel())
    # Kolmogorov-Smirnov distance of 5,000 numbers: 1.63 / sqrt(5000) = 0.023 at 1%.
    assert np.max(np.abs(lower - np.linspace(0, 1, lower.size))) < 0.023


@pytest.mark.long
def test_skew_and_low_rank_games_have_logits_of_their_scale_and_rank():
    keys = jax.random.split(jax.random.key(4), 20)
    logits = jax.scipy.special.logit(skew_game(keys, 30, scale=2.0))
    off = ~np.eye(30, dtype=bool)
    assert 1.9 < float(jnp.std(logits[:, off])) < 2.1
    low = jax.scipy.special.logit(low_rank_game(keys, 30, rank=3, scale=0.5))
    ranks = jnp.sum(jnp.linalg.svd(low, compute_uv=False) > 1e-9, axis=-1)
    np.testing.assert_array_equal(ranks, 6)
    double = jax.scipy.special.logit(low_rank_game(keys, 30, rank=3, scale=1.0))
    np.testing.assert_allclose(double, 2.0 * low, atol=1e-12)


def test_condorcet_game_keeps_the_other_pairs():
    keys = jax.random.split(jax.random.key(5), 3)
    games = jax.jit(lambda gap: condorcet_game(keys, 6, gap=gap))(0.1)
    np.testing.assert_allclose(games[:, 0, 1:], 0.6)
    np.testing.assert_allclose(games[:, 1:, 0], 0.4)
    np.testing.assert_array_equal(games[:, 1:, 1:], random_game(keys, 6)[:, 1:, 1:])


def test_references():
    probs = jnp.exp(tilted_reference())
    np.testing.assert_allclose(probs, [0.57366348, 0.28487285, 0.14146367], atol=5e-9)
    np.testing.assert_allclose(jnp.diff(tilted_reference(5, tilt=1.0)), -0.5, rtol=1e-12)
    logps = random_reference(jax.random.split(jax.random.key(6), (2, 1000)), 10)
    np.testing.assert_allclose(jnp.sum(jnp.exp(logps), -1), 1.0, rtol=1e-12)
    # Standard normals less their log-sum-exp: variance 1 within a row, in the unbiased estimate.
    assert abs(float(jnp.mean(jnp.var(logps, axis=-1, ddof=1))) - 1.0) < 0.05


@pytest.mark.parametrize(
    ("where", "value", "mirrored", "message"),
    [
        ((), 1.2, -0.2, r"game: P\(row 0 beats column 2\) = 1.2, .* in \[0, 1\]"),
        ((3,), -0.1, 1.1, r"game 3: P\(row 0 beats column 2\) = -0.1, .* in \[0, 1\]"),
        ((1, 0), np.nan, 0.5, r"game \(1, 0\): P\(row 0 beats column 2\) = nan, .* probability"),
        ((2,), np.inf, 0.5, r"game 2: P\(row 0 beats column 2\) = inf, .* in \[0, 1\]"),
        ((1,), 0.7, 0.4, r"game 1: .* = 0.7, P\(row 2 beats column 0\) = 0.4; .* P \+ P\^T = 1"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(where, value, mirrored, message):
    games = np.full((*(size + 1 for size in where), 3, 3), 0.5)
    games[(*where, 0, 2)], games[(*where, 2, 0)] = value, mirrored
    with pytest.raises(ValueError, match=message):
        check_prefs(games)


def test_a_wrong_diagonal_is_refused_by_name():
    games = np.full((2, 3, 3), 0.5)
    games[1, 2, 2] = 0.6
    message = r"game 1: P\(row 2 beats column 2\) = 0.6; expected 1/2 on the diagonal"
    with pytest.raises(ValueError, match=message):
        check_prefs(games)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (3,), (), (2, 0, 0)])
def test_a_matrix_that_is_not_square_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=rf"square.*{'.*'.join(map(str, shape))}"):
        check_prefs(np.full(shape, 0.5))


@pytest.mark.long
def test_the_tolerance_is_the_callers():
    rounded = np.asarray(skew_game(jax.random.key(7), 8)).astype(np.float16)
    rounded[0, 1] += np.float16(1e-3)
    with pytest.raises(ValueError, match=r"row 0 beats column 1"):
        check_prefs(rounded)
    np.testing.assert_array_equal(check_prefs(rounded, atol=3e-3), rounded)
    nested = [[0.5, 0.25], [0.75, 0.5]]
    assert check_prefs(nested).tolist() == nested
