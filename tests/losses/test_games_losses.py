"""Regressions of preference games: their solutions against exact maps of small games, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bandit_population import gaps
from game_population import (
    all_pairs,
    assert_solves,
    labelled,
    pair_weights,
    random_game,
    slope,
    step,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.losses.games import (
    anchor_gaps,
    inpo_loss,
    mnpo_loss,
    online_ipo_loss,
    online_ipo_v2_loss,
    onpo_loss,
    pairwise_regression_loss,
    sppo_loss,
)
from rlhf_jax.losses.preference.anchored import sppo_hard_loss
from rlhf_jax.losses.preference.offsets import rebel_loss
from rlhf_jax.losses.preference.pairs import ipo_loss

SIZE = 4  # answers of a random game
SEEDS = pytest.mark.parametrize("seed", [0, 1, 2])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


# ---- Golden numbers: rock, paper, scissors that win for certain, a reference and a policy.

RPS = [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
REF, POLICY = [0.7, 0.0, -0.7], [0.3, -0.2, 0.1]


def dice():
    """P, log mu, log pi."""
    parts = jnp.array(RPS), jnp.array(REF), jnp.array(POLICY)
    return parts[0], jax.nn.log_softmax(parts[1]), jax.nn.log_softmax(parts[2])


def online_ipo(logps, ref_logps, opponent, game, beta):
    """First form on every ordered pair, [n, n]."""
    wins = game @ jnp.exp(opponent)
    return online_ipo_loss(*all_pairs(logps), *all_pairs(ref_logps), gaps(wins), beta=beta)


def test_pairwise_regression_golden_number():
    # (-1 - (-3) - 0.5 - 0.25)^2 = 1.25^2
    loss = pairwise_regression_loss(*(jnp.array([x]) for x in (-1.0, -3.0, 0.5, 0.25)))
    np.testing.assert_allclose(loss, [1.5625])


def test_anchor_gaps_golden_number():
    first, second = jnp.array([[-1.0, -2.0, jnp.nan]]), jnp.array([[-4.0, -1.0, -jnp.inf]])
    # 0.25 * 3 + 0.75 * (-1); an anchor of weight 0 may be missing
    got = anchor_gaps(first, second, jnp.array([0.25, 0.75, 0.0]))
    np.testing.assert_allclose(got, [0.0], atol=1e-15)


def test_online_ipo_golden_numbers():
    """Mean over the nine ordered pairs, opponent pi, beta = 0.1."""
    game, ref, policy = dice()

    def mean(logps):
        return jnp.mean(online_ipo(logps, ref, policy, game, 0.1))

    np.testing.assert_allclose(mean(policy), 0.01224797, atol=1e-8)
    want = [-0.03891715, 0.14272543, -0.10380828]
    np.testing.assert_allclose(slope(mean, policy), want, atol=1e-8)


def test_online_ipo_v2_golden_numbers():
    """Pairs weighted by pi x pi without a gradient, beta = 0.1."""
    game, ref, policy = dice()
    weights = pair_weights(policy)

    def mean(logps):
        losses = online_ipo_v2_loss(*all_pairs(logps), *all_pairs(ref), game, beta=0.1)
        return jnp.sum(weights * losses)

    np.testing.assert_allclose(mean(policy), 15.67527076, atol=1e-8)
    want = [-0.02909442, 0.11863365, -0.08953923]
    np.testing.assert_allclose(slope(mean, policy), want, atol=1e-8)


def test_inpo_golden_numbers():
    """Eq. 8 with the paper's tau = 0.2 and eta = 2, which is a step of 1/2 here."""
    game, ref, policy = dice()
    of = labelled(game, policy, lambda x: inpo(x, ref, policy, beta=0.2, eta=0.5))
    np.testing.assert_allclose(of(ref), 0.58645265, atol=1e-8)
    np.testing.assert_allclose(of(policy), 0.0620814, atol=1e-8)
    best = jnp.log(jnp.array([0.42205681, 0.25172276, 0.32622043]))
    np.testing.assert_allclose(of(best), 0.06082009, atol=1e-8)
    np.testing.assert_allclose(slope(of, best), 0.0, atol=1e-7)


def inpo(logps, ref_logps, old_logps, *, beta, eta):
    """INPO on every ordered pair, the first the winner, [n, n]."""
    pairs = *all_pairs(logps), *all_pairs(ref_logps)
    return inpo_loss(*pairs, gaps(old_logps), beta=beta, eta=eta)


def test_steps_agree_with_their_golden_numbers():
    """The map that the tests below hold the losses against, at eta = 1/2 and beta = 0.1."""
    game, ref, policy = dice()

    def of(opponent, beta=0.1):
        return step(policy, opponent, game, ref, eta=0.5, beta=beta)

    mixture = jax.nn.log_softmax(0.95 * policy + 0.05 * ref)
    want = {
        "mirror descent": (of(policy), [0.41268788, 0.24860865, 0.33870347]),
        "Nash-MD": (of(mixture), [0.41397273, 0.2470633, 0.33896397]),
        "EGPO": (of(of(policy)), [0.41244663, 0.24867192, 0.33888145]),
        "Hedge": (of(policy, 0.0), [0.40323492, 0.24535539, 0.35140969]),
    }
    for got, probs in want.values():
        np.testing.assert_allclose(jnp.exp(got), probs, atol=1e-8)
    got = td_mnpo_step(policy, ref, game, ref, rho=0.05, eta=0.5)
    np.testing.assert_allclose(jnp.exp(got), [0.49702791, 0.27228099, 0.2306911], atol=1e-8)


def td_mnpo_step(logps, previous, game, ref_logps, *, rho, eta):
    """Half the history weight on each of the last two policies."""
    history = 0.5 * (logps + previous)
    kept = rho * ref_logps + (1.0 - rho) * history
    return jax.nn.log_softmax(kept + eta * game @ jnp.exp(logps))


# ---- Winner and loser against win rates.


def against_win_rates(logps, ref_logps, old_logps, wins, *, beta, eta):
    """The regression on eta [P(y > pi_t) - P(y' > pi_t)], [n, n]."""
    weights = jnp.array([eta * beta, 1.0 - eta * beta])
    anchors = jnp.stack([ref_logps, old_logps], axis=-1)
    first = jnp.broadcast_to(anchors[:, None], (len(logps), *anchors.shape))
    g = anchor_gaps(first, jnp.swapaxes(first, 0, 1), weights)
    return pairwise_regression_loss(*all_pairs(logps), g, eta * gaps(wins))


@SEEDS
def test_winner_and_loser_stand_for_win_rates_on_pairs_of_the_opponent(seed):
    """The two population losses differ by a constant; not so on pairs from another policy."""
    game, (ref, old, other, *policies) = random_game(seed)
    wins = game @ jnp.exp(old)

    def spread(sampler):
        labels = labelled(game, sampler, lambda x: inpo(x, ref, old, beta=0.3, eta=1.5))
        weights = pair_weights(sampler)
        rates = [
            jnp.sum(weights * against_win_rates(x, ref, old, wins, beta=0.3, eta=1.5))
            for x in (ref, *policies)
        ]
        offsets = jnp.array([labels(x) for x in (ref, *policies)]) - jnp.array(rates)
        return float(jnp.max(offsets) - jnp.min(offsets))

    assert spread(old) < 1e-12
    assert spread(other) > 1e-3
    assert spread(jnp.full(SIZE, -jnp.log(SIZE))) > 1e-3


@SEEDS
def test_a_filter_on_the_pairs_moves_the_solution(seed):
    """Here only pairs that the better answer won are kept."""
    game, (ref, old, *_) = random_game(seed)
    weights = pair_weights(old)
    kept = jnp.where(game > 0.5, weights, 0.0)
    solution = step(old, old, game, ref, eta=1.5, beta=0.3)

    def filtered(logps):
        return jnp.sum(kept * inpo(logps, ref, old, beta=0.3, eta=1.5))

    assert float(jnp.max(jnp.abs(slope(filtered, solution)))) > 1e-2


# ---- One regression solved is one tabular step.


@SEEDS
def test_inpo_solves_the_mirror_step(seed):
    game, (ref, old, *_) = random_game(seed)
    loss = labelled(game, old, lambda x: inpo(x, ref, old, beta=0.3, eta=1.5))
    assert_solves(loss, step(old, old, game, ref, eta=1.5, beta=0.3))


@SEEDS
@pytest.mark.parametrize("method", ["mirror descent", "Nash-MD", "EGPO", "another player"])
def test_regression_on_win_rates_solves_the_step_against_any_opponent(seed, method):
    game, (ref, old, other, sampler, _) = random_game(seed)
    opponent = {
        "mirror descent": old,
        "Nash-MD": jax.nn.log_softmax(0.55 * old + 0.45 * ref),
        "EGPO": step(old, old, game, ref, eta=1.5, beta=0.3),
        "another player": other,
    }[method]
    wins = game @ jnp.exp(opponent)
    weights = pair_weights(sampler)

    def loss(logps):
        return jnp.sum(weights * against_win_rates(logps, ref, old, wins, beta=0.3, eta=1.5))

    assert_solves(loss, step(old, opponent, game, ref, eta=1.5, beta=0.3))


@SEEDS
def test_one_gradient_step_of_online_ipo_is_the_tabular_step(seed):
    """lr = eta beta n / 4 with the mean over all ordered pairs, whoever the opponent is."""
    game, (ref, old, *opponents) = random_game(seed)
    eta, beta = 0.7, 0.3
    for opponent in (old, jax.nn.log_softmax(0.79 * old + 0.21 * ref), *opponents):

        def mean(logps, opponent=opponent):
            return jnp.mean(online_ipo(logps, ref, opponent, game, beta))

        moved = old - eta * beta * SIZE / 4 * slope(mean, old)
        want = step(old, opponent, game, ref, eta=eta, beta=beta)
        np.testing.assert_allclose(jax.nn.log_softmax(moved), want, atol=1e-12)


@SEEDS
def test_online_ipo_solves_the_best_response(seed):
    game, (ref, opponent, sampler, *_) = random_game(seed)
    weights = pair_weights(sampler)
    best = step(ref, opponent, game, ref, eta=1 / 0.3, beta=0.3)
    assert_solves(lambda x: jnp.sum(weights * online_ipo(x, ref, opponent, game, 0.3)), best)


@SEEDS
def test_onpo_solves_the_step_without_a_reference(seed):
    """Base to new base, and new base to next policy, both on pairs from pi_t."""
    game, (base, old, *_) = random_game(seed)
    for start in (base, step(base, old, game, base, eta=0.8, beta=0.0)):

        def losses(logps, start=start):
            return onpo_loss(*all_pairs(logps), *all_pairs(start), eta=0.8)

        want = step(start, old, game, start, eta=0.8, beta=0.0)
        assert_solves(labelled(game, old, losses), want)


@SEEDS
def test_mnpo_solves_its_step(seed):
    game, (ref, old, previous, *_) = random_game(seed)
    loss = labelled(game, old, lambda x: mnpo(x, (ref, old, previous), [0.1, 0.45, 0.45], 1.5))
    assert_solves(loss, td_mnpo_step(old, previous, game, ref, rho=0.1, eta=1.5))


def mnpo(logps, anchors, weights, eta):
    """MNPO on every ordered pair, the first the winner, [n, n]."""
    stacked = jnp.stack(anchors, axis=-1)
    first = jnp.broadcast_to(stacked[:, None], (len(logps), *stacked.shape))
    second = jnp.swapaxes(first, 0, 1)
    return mnpo_loss(*all_pairs(logps), first, second, weights=jnp.array(weights), eta=eta)


@SEEDS
def test_regression_solves_the_step_of_several_players(seed):
    """Player i moves from the mean of the others against all of them (MNPO, Eq. 10 and 14)."""
    game, (sampler, *others) = random_game(seed)
    share = jnp.full(len(others), 1.0 / len(others))
    wins = sum(game @ jnp.exp(other) for other in others) / len(others)
    stacked = jnp.stack(others, axis=-1)
    first = jnp.broadcast_to(stacked[:, None], (SIZE, *stacked.shape))
    g = anchor_gaps(first, jnp.swapaxes(first, 0, 1), share)
    weights = pair_weights(sampler)

    def loss(logps):
        return jnp.sum(weights * pairwise_regression_loss(*all_pairs(logps), g, 0.8 * gaps(wins)))

    mean = sum(other + 0.8 * game @ jnp.exp(other) for other in others) / len(others)
    assert_solves(loss, jax.nn.log_softmax(mean))


@SEEDS
def test_sppo_is_least_at_half_a_step_of_win_rates(seed):
    """Unnormalised: the target itself, which is no policy. The hard form has the same slope."""
    game, (old, *_) = random_game(seed)
    wins = game @ jnp.exp(old)
    target = old + 0.8 * (wins - 0.5)
    np.testing.assert_allclose(sppo_loss(target, old, wins, eta=0.8), 0.0, atol=1e-30)

    def soft(logps):
        return 2.0 * jnp.sum(jnp.exp(old) * sppo_loss(logps, old, wins, eta=0.8))

    def hard(logps):
        losses = sppo_hard_loss(*all_pairs(logps), *all_pairs(old), beta=1.0 / 0.8)
        return labelled(game, old, lambda _: losses)(logps)

    np.testing.assert_allclose(slope(hard, wins), slope(soft, wins), atol=1e-12)
    assert float(jnp.max(jnp.abs(slope(soft, wins)))) > 1e-3


# ---- Which reduces to which.


def drawn(count, lead=(5,), seed=3):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(x) for x in rng.standard_normal((count, *lead)))


def test_reductions_of_the_pairwise_objectives():
    pair = drawn(4)
    old = drawn(2, seed=4)
    old_gaps = old[0] - old[1]
    ref_gaps, half = pair[2] - pair[3], jnp.full(5, 0.5)
    ipo = ipo_loss(*pair, beta=0.4)

    def same(got, want):
        np.testing.assert_allclose(got, want, rtol=1e-12)

    same(pairwise_regression_loss(*pair[:2], ref_gaps, half / 0.4), ipo)
    same(online_ipo_loss(*pair, half, beta=0.4), ipo)
    same(online_ipo_v2_loss(*pair, 2 * half, beta=0.4), ipo)
    same(online_ipo_loss(*pair, old_gaps, beta=0.4), rebel_loss(*pair, old_gaps, beta=0.4) / 0.16)
    same(inpo_loss(*pair, old_gaps, beta=0.4, eta=2.5), ipo)
    same(onpo_loss(*pair, eta=2.5), ipo)
    without = inpo_loss(*pair, old_gaps, beta=0.0, eta=2.5)
    same(without, onpo_loss(*pair[:2], *old, eta=2.5))
    anchors = [jnp.stack(x, axis=-1) for x in ((pair[2], old[0]), (pair[3], old[1]))]
    for beta in (0.0, 0.1, 0.4):
        weights = jnp.array([2.5 * beta, 1.0 - 2.5 * beta])
        got = mnpo_loss(*pair[:2], *anchors, weights=weights, eta=2.5)
        same(got, inpo_loss(*pair, old_gaps, beta=beta, eta=2.5))


def test_a_history_that_is_not_there_never_matters():
    pair = drawn(4)
    missing = jnp.full(5, jnp.nan)
    anchors = [jnp.stack([x, missing], axis=-1) for x in pair[2:]]

    def total(chosen):
        losses = mnpo_loss(chosen, pair[1], *anchors, weights=jnp.array([1.0, 0.0]), eta=2.5)
        return jnp.sum(losses), losses

    grad, losses = jax.grad(total, has_aux=True)(pair[0])
    np.testing.assert_allclose(losses, onpo_loss(*pair, eta=2.5), rtol=1e-12)
    assert bool(jnp.all(jnp.isfinite(grad)))


numbers = st.lists(st.floats(-30.0, 30.0), min_size=5, max_size=5)


@pytest.mark.long
@settings(derandomize=True, deadline=None, max_examples=25)
@given(numbers)
def test_swapping_the_pair_and_a_shift_change_nothing(x):
    first, second, ref_first, ref_second, gap = (jnp.array([v]) for v in x)
    want = online_ipo_loss(first, second, ref_first, ref_second, gap, beta=0.5)
    swapped = online_ipo_loss(second, first, ref_second, ref_first, -gap, beta=0.5)
    np.testing.assert_allclose(swapped, want, rtol=1e-12)
    shifted = online_ipo_loss(first + 3.0, second + 3.0, ref_first, ref_second, gap, beta=0.5)
    np.testing.assert_allclose(shifted, want, rtol=1e-9, atol=1e-9)
