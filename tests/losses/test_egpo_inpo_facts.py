"""Facts of EGPO's and INPO's papers that no other file holds: special cases, factors, solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandit_population import gaps
from game_population import all_pairs, labelled, pair_weights, random_game, slope, step

from rlhf_jax.losses.games import inpo_loss, online_ipo_loss, online_ipo_v2_loss
from rlhf_jax.losses.links import squared

SEEDS = pytest.mark.parametrize("seed", [0, 1, 2])
SIZE, ETA, BETA = 4, 1.5, 0.3


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def online_ipo(logps, ref, wins):
    """First form on every ordered pair, [n, n]."""
    return online_ipo_loss(*all_pairs(logps), *all_pairs(ref), gaps(wins), beta=BETA)


def inpo(logps, ref, old, *, beta=BETA):
    """Eq. 8 on every ordered pair, the first the winner, [n, n]."""
    return inpo_loss(*all_pairs(logps), *all_pairs(ref), gaps(old), beta=beta, eta=ETA)


# ---- EGPO.


@SEEDS
def test_the_gradient_of_online_ipo_has_the_factor_four(seed):
    """(4 / n) (d - mean d), d = theta - theta_ref - P q / beta; not 2 / n."""
    game, (ref, logps, opponent, *_) = random_game(seed)
    wins = game @ jnp.exp(opponent)
    d = logps - ref - wins / BETA
    got = slope(lambda x: jnp.mean(online_ipo(x, ref, wins)), logps)
    np.testing.assert_allclose(got, 4.0 / SIZE * (d - d.mean()), atol=1e-12)


@SEEDS
def test_the_gradient_is_the_mean_over_sampled_opponents(seed):
    """One answer of the opponent in place of its win rates: the same gradient in expectation."""
    game, (ref, logps, opponent, *_) = random_game(seed)
    want = slope(lambda x: jnp.mean(online_ipo(x, ref, game @ jnp.exp(opponent))), logps)
    each = [
        slope(lambda x, y=y: jnp.mean(online_ipo(x, ref, game[:, y])), logps) for y in range(SIZE)
    ]
    np.testing.assert_allclose(jnp.exp(opponent) @ jnp.stack(each), want, atol=1e-12)


@SEEDS
def test_the_half_step_of_egpo_is_taken_back(seed):
    """From the half step itself it would be another map; from pi_t it leaves the solution alone."""
    game, (ref, old, *_) = random_game(seed)
    rate = ETA * BETA * SIZE / 4.0

    def descend(start, opponent):
        wins = game @ jnp.exp(jax.nn.log_softmax(opponent))
        return start - rate * slope(lambda x: jnp.mean(online_ipo(x, ref, wins)), start)

    half = descend(old, old)
    want = step(old, step(old, old, game, ref, eta=ETA, beta=BETA), game, ref, eta=ETA, beta=BETA)
    np.testing.assert_allclose(jax.nn.log_softmax(descend(old, half)), want, atol=1e-12)
    assert float(jnp.max(jnp.abs(jax.nn.log_softmax(descend(half, half)) - want))) > 1e-3


@SEEDS
def test_pairs_of_the_policy_do_not_give_mirror_descent(seed):
    """The uniform law of the pairs is what makes SGD a mirror step; weighted by pi it is not."""
    game, (ref, old, *_) = random_game(seed)
    wins, rate = game @ jnp.exp(old), ETA * BETA * SIZE / 4.0
    weights = pair_weights(old)
    moved = old - rate * slope(lambda x: jnp.sum(weights * online_ipo(x, ref, wins)), old)
    want = step(old, old, game, ref, eta=ETA, beta=BETA)
    assert float(jnp.max(jnp.abs(jax.nn.log_softmax(moved) - want))) > 1e-3


@SEEDS
def test_win_rates_of_one_answer_serve_the_second_form(seed):
    """Twice the first answer's win rate less 1/2 stands for the label of the pair."""
    game, (ref, logps, *_) = random_game(seed)
    weights = pair_weights(logps)

    def second(prefs):
        def mean(x):
            pairs = *all_pairs(x), *all_pairs(ref)
            return jnp.sum(weights * online_ipo_v2_loss(*pairs, prefs, beta=BETA))

        return mean

    wins = jnp.broadcast_to((game @ jnp.exp(logps))[:, None], game.shape)
    got = slope(second(0.5 + 2.0 * (wins - 0.5)), logps)
    np.testing.assert_allclose(got, slope(second(game), logps), atol=1e-12)


# ---- INPO.


@SEEDS
def test_a_bit_as_target_has_the_solution_of_the_winner_and_loser(seed):
    """(h - eta I)^2 for I ~ Ber(P), and (h - eta P)^2: gradients of Eq. 8, all three."""
    game, (ref, old, logps, *_) = random_game(seed)
    weights = pair_weights(old)

    def ratios(x):
        return gaps(x) - ETA * BETA * gaps(ref) - (1.0 - ETA * BETA) * gaps(old)

    def bits(x):
        won, lost = squared(ratios(x), ETA * jnp.ones_like(game)), squared(ratios(x), 0.0 * game)
        return jnp.sum(weights * (game * won + (1.0 - game) * lost))

    def soft(x):
        return jnp.sum(weights * squared(ratios(x), ETA * game))

    want = slope(labelled(game, old, lambda x: inpo(x, ref, old)), logps)
    np.testing.assert_allclose(slope(bits, logps), want, atol=1e-12)
    np.testing.assert_allclose(slope(soft, logps), want, atol=1e-12)


@SEEDS
def test_without_kl_the_reference_never_matters_and_the_solution_is_hedge(seed):
    game, (ref, old, *_) = random_game(seed)
    hedge = jax.nn.log_softmax(old + ETA * game @ jnp.exp(old))
    nowhere = jnp.full_like(ref, -50.0).at[0].set(0.0)
    for anchor in (ref, nowhere):
        loss = labelled(game, old, lambda x, anchor=anchor: inpo(x, anchor, old, beta=0.0))
        np.testing.assert_allclose(slope(loss, hedge), 0.0, atol=1e-10)


@SEEDS
def test_at_eta_beta_one_the_last_policy_is_no_anchor(seed):
    """Solved, it is the best response to pi_t: online IPO to convergence."""
    game, (ref, old, other, *_) = random_game(seed)
    best = jax.nn.log_softmax(ref + ETA * game @ jnp.exp(old))
    for anchor in (old, other):
        loss = labelled(game, old, lambda x, a=anchor: inpo(x, ref, a, beta=1.0 / ETA))
        np.testing.assert_allclose(slope(loss, best), 0.0, atol=1e-10)


@SEEDS
def test_uniform_pairs_make_the_opponent_uniform(seed):
    """The negative control: the solution is a step against the uniform policy, not against pi_t."""
    game, (ref, old, *_) = random_game(seed)
    uniform = jnp.full(SIZE, -jnp.log(SIZE))
    loss = labelled(game, uniform, lambda x: inpo(x, ref, old))
    want = step(old, uniform, game, ref, eta=ETA, beta=BETA)
    np.testing.assert_allclose(slope(loss, want), 0.0, atol=1e-10)
    against_itself = step(old, old, game, ref, eta=ETA, beta=BETA)
    assert float(jnp.max(jnp.abs(slope(loss, against_itself)))) > 1e-3


@SEEDS
def test_a_sure_label_plays_a_surer_game(seed):
    """The better of two for certain: a step in the game of argmaxes, whatever P's margins are."""
    game, (ref, old, *_) = random_game(seed)
    sure = jnp.where(game > 0.5, 1.0, jnp.where(game < 0.5, 0.0, 0.5))
    loss = labelled(sure, old, lambda x: inpo(x, ref, old))
    want = step(old, old, sure, ref, eta=ETA, beta=BETA)
    np.testing.assert_allclose(slope(loss, want), 0.0, atol=1e-10)
    honest = step(old, old, game, ref, eta=ETA, beta=BETA)
    assert float(jnp.max(jnp.abs(slope(loss, honest)))) > 1e-3
