"""The sampled losses of preference games, enumerated, are the updates of tables; float64.

Gradient rows: one step of gradient descent on the mean loss over everything that is drawn. Solved
rows: the mean loss is stationary at the update.
"""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nash_population import KEY, one_update, random_games

from rlhf_jax.algos import games
from rlhf_jax.algos.games.opponents import mixture, moving_average, past_average
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.losses.games import (
    anchor_gaps,
    inpo_loss,
    mnpo_loss,
    nash_md_pg_loss,
    nash_md_pg_token_loss,
    online_ipo_loss,
    online_ipo_v2_loss,
    onpo_loss,
    pairwise_regression_loss,
    sppo_loss,
)

SIZE = 4
SEEDS = pytest.mark.parametrize("seed", [0, 1])
ETA, BETA = 1.5, 0.3


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def drawn(seed):
    """P, log mu, three policies as log-probs."""
    (prefs,), (ref,) = random_games(seed, 1, SIZE)
    more = np.random.default_rng(seed + 100).standard_normal((3, SIZE))
    return jnp.asarray(prefs), jnp.asarray(ref), *jax.nn.log_softmax(jnp.asarray(more))


def pairs(x):
    """First and second [n, n] of every ordered pair of answers."""
    shape = (SIZE, SIZE)
    return jnp.broadcast_to(x[:, None], shape), jnp.broadcast_to(x[None, :], shape)


def anchored(*anchors):
    """Anchors [n, n, K] of the first and of the second answer of every pair."""
    stacked = [jnp.stack(each, axis=-1) for each in zip(*map(pairs, anchors), strict=True)]
    return stacked[0], stacked[1]


def slope(loss, logps):
    """Gradient of a function of log-probs to the logits of a table."""
    return jax.grad(lambda logits: loss(jax.nn.log_softmax(logits)))(logps)


def labelled(prefs, sampler, loss):
    """Mean of loss(logps) [winner, loser] over iid pairs of the sampler and their labels."""
    weights = jnp.exp(sampler[:, None] + sampler[None, :])

    # The pair (y, z) becomes (winner, loser) = (y, z) with chance P[y, z], else (z, y).
    def mean(logps):
        losses = loss(logps)
        return jnp.sum(weights * (prefs * losses + prefs.T * losses.T))

    return mean


def assert_solved_at(loss, logps):
    """Stationary there, clearly not beside it."""
    np.testing.assert_allclose(slope(loss, logps), 0.0, atol=1e-10)
    beside = logps + 0.5 * jnp.sin(jnp.arange(float(SIZE)))
    assert float(jnp.max(jnp.abs(slope(loss, beside)))) > 1e-3


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


# ---- Gradient rows: online IPO on uniform pairs, bits against one answer of the opponent.


def descend(prefs, ref, old, opponent, *, eta, beta):
    """One step at rate eta beta n / 4 on online IPO, over pairs, opponent's answers and bits."""
    chance = jnp.exp(opponent)

    def mean(logps):
        total = 0.0
        for third, (first_won, second_won) in product(range(SIZE), product((0, 1), repeat=2)):
            wins = prefs[:, third]
            first = jnp.where(first_won, wins, 1 - wins)[:, None]
            second = jnp.where(second_won, wins, 1 - wins)[None, :]
            bits = jnp.full((SIZE, SIZE), float(first_won - second_won))
            losses = online_ipo_loss(*pairs(logps), *pairs(ref), bits, beta=beta)
            total += chance[third] * jnp.mean(first * second * losses)
        return total

    return jax.nn.log_softmax(old - eta * beta * SIZE / 4 * slope(mean, old))


@pytest.mark.long
@SEEDS
def test_online_ipo_is_mirror_descent_against_its_opponent(seed):
    prefs, ref, old, other, _ = drawn(seed)
    mixed = jax.nn.log_softmax((1 - ETA * BETA) * old + ETA * BETA * ref)
    trailing = games.mirror_descent(ref, eta=ETA, beta=BETA, opponent=moving_average(decay=0.9))
    rows = {
        "mirror descent": (games.mirror_descent(ref, eta=ETA, beta=BETA), old, ETA),
        "Nash-MD": (games.nash_md(ref, eta=ETA, beta=BETA), mixed, ETA),
        "Nash-EMA": (trailing, other, ETA),
        "best response": (games.best_response(ref, beta=BETA), old, 1 / BETA),
    }
    for method, opponent, eta in rows.values():
        want = descend(prefs, ref, old, opponent, eta=eta, beta=BETA)
        close(one_update(method, old, prefs, start=other), want)


@pytest.mark.long
@SEEDS
def test_online_ipo_against_the_average_is_fictitious_play(seed):
    prefs, ref, old, other, third = drawn(seed)
    method = games.mirror_descent(ref, eta=ETA, beta=BETA, opponent=past_average())
    past = (jnp.exp(other) + jnp.exp(third)) / 2
    state = method.init(other)._replace(logps=old, average=past, step=jnp.int32(2))
    got = method.update(state, exact_oracle(prefs), KEY)[0].logps
    mean = jnp.log((2 * past + jnp.exp(old)) / 3)
    close(got, descend(prefs, ref, old, mean, eta=ETA, beta=BETA))


@pytest.mark.long
@SEEDS
def test_two_steps_of_online_ipo_from_one_policy_are_egpo(seed):
    prefs, ref, old, *_ = drawn(seed)
    half = descend(prefs, ref, old, old, eta=ETA, beta=BETA)
    want = descend(prefs, ref, old, half, eta=ETA, beta=BETA)
    close(one_update(games.nash_mp(ref, eta=ETA, beta=BETA), old, prefs), want)


# ---- Gradient rows: policy gradients, the answer from pi and the other from the opponent.


@SEEDS
@pytest.mark.parametrize("loss", [nash_md_pg_loss, nash_md_pg_token_loss])
def test_nash_md_pg_is_the_policy_gradient_row(seed, loss):
    """In self-play, against the mixture and against the moving average, at rate eta."""
    prefs, ref, old, other, _ = drawn(seed)
    mixed = jax.nn.log_softmax(0.75 * old + 0.25 * ref)
    rows = {
        "self-play": (None, old),
        "Nash-MD-PG": (mixture(ref, weight=0.25), mixed),
        "Nash-EMA-PG": (moving_average(decay=0.9), other),
    }
    for opponent, against in rows.values():
        chance = jnp.exp(old[:, None] + against[None, :])

        def mean(logps, chance=chance):
            tokens, ref_tokens = (pairs(x)[0][..., None] for x in (logps, ref))
            mask = jnp.ones((SIZE, SIZE, 1), bool)
            won = loss(tokens, ref_tokens, jnp.ones((SIZE, SIZE)), mask, beta=BETA)
            lost = loss(tokens, ref_tokens, jnp.zeros((SIZE, SIZE)), mask, beta=BETA)
            return jnp.sum(chance * (prefs * won + (1 - prefs) * lost))

        method = games.policy_gradient(ref, eta=ETA, beta=BETA, opponent=opponent)
        want = jax.nn.log_softmax(old - ETA * slope(mean, old))
        close(one_update(method, old, prefs, start=other), want)


@SEEDS
def test_the_second_form_of_online_ipo_is_the_policy_gradient_row(seed):
    """Pairs and labels from pi, rate lr: eta = 4 lr / beta."""
    prefs, ref, old, *_ = drawn(seed)
    rate = 0.05
    chance = jnp.exp(old[:, None] + old[None, :])

    def mean(logps):
        both = *pairs(logps), *pairs(ref)
        won = online_ipo_v2_loss(*both, jnp.ones((SIZE, SIZE)), beta=BETA)
        lost = online_ipo_v2_loss(*both, jnp.zeros((SIZE, SIZE)), beta=BETA)
        return jnp.sum(chance * (prefs * won + (1 - prefs) * lost))

    method = games.policy_gradient(ref, eta=4 * rate / BETA, beta=BETA)
    want = jax.nn.log_softmax(old - rate * slope(mean, old))
    close(one_update(method, old, prefs), want)


# ---- Solved rows: winners and losers drawn from pi_t.


@SEEDS
def test_inpo_solved_is_mirror_descent(seed):
    prefs, ref, old, *_ = drawn(seed)
    old_gaps = old[:, None] - old[None, :]

    def losses(logps):
        return inpo_loss(*pairs(logps), *pairs(ref), old_gaps, beta=BETA, eta=ETA)

    want = one_update(games.mirror_descent(ref, eta=ETA, beta=BETA), old, prefs)
    assert_solved_at(labelled(prefs, old, losses), want)


@SEEDS
def test_onpo_solved_twice_is_omwu(seed):
    """From the base to the new base, from there to the next policy, on the same pairs."""
    prefs, ref, old, base, _ = drawn(seed)
    method = games.omwu(ref, eta=ETA)
    state = method.init(base)._replace(logps=old)
    after = method.update(state, exact_oracle(prefs), KEY)[0]
    for start, end in ((base, after.memory), (after.memory, after.logps)):

        def losses(logps, start=start):
            return onpo_loss(*pairs(logps), *pairs(start), eta=ETA)

        assert_solved_at(labelled(prefs, old, losses), end)


@SEEDS
def test_td_mnpo_solved_is_its_row(seed):
    prefs, ref, old, previous, _ = drawn(seed)
    rho = ETA * BETA
    weights = jnp.array([rho, (1 - rho) * 0.3, (1 - rho) * 0.7])
    anchors = anchored(ref, old, previous)

    def losses(logps):
        return mnpo_loss(*pairs(logps), *anchors, weights=weights, eta=ETA)

    method = games.td_mnpo(ref, eta=ETA, beta=BETA, history_weights=(0.3, 0.7))
    want = one_update(method, old, prefs, start=previous)
    assert_solved_at(labelled(prefs, old, losses), want)


@pytest.mark.long
@SEEDS
def test_players_solved_are_their_rows(seed):
    """Eq. 18, pairs of player i labelled by its own game; Eq. 10, win rates against the others."""
    prefs, ref, *players = drawn(seed)
    own = jnp.asarray(random_games(seed + 50, 3, SIZE)[0])
    refs, logps = jnp.stack([ref] * 3), jnp.stack(players)
    rho = ETA * BETA
    apart = one_update(games.ht_mnpo(refs, eta=ETA, beta=BETA), logps, own)
    shared = one_update(games.mnpo(refs, eta=ETA, beta=0.0), logps, prefs)
    for i in range(3):
        others = [players[j] for j in range(3) if j != i]
        anchors, weights = anchored(ref, *others), jnp.array([rho, (1 - rho) / 2, (1 - rho) / 2])

        def losses(logps, anchors=anchors, weights=weights):
            return mnpo_loss(*pairs(logps), *anchors, weights=weights, eta=ETA)

        assert_solved_at(labelled(own[i], players[i], losses), apart[i])
        wins = sum(prefs @ jnp.exp(other) for other in others) / 2
        gaps = anchor_gaps(*anchored(*others), jnp.array([0.5, 0.5]))
        targets = ETA * (wins[:, None] - wins[None, :])

        def mean(logps, gaps=gaps, targets=targets):
            return jnp.mean(pairwise_regression_loss(*pairs(logps), gaps, targets))

        assert_solved_at(mean, shared[i])


@SEEDS
def test_sppo_solved_and_normalised_is_hedge(seed):
    """Its minimiser is no policy; the policy in proportion to it is the update at beta = 0."""
    prefs, ref, old, *_ = drawn(seed)
    hedge = one_update(games.mirror_descent(ref, eta=ETA, beta=0.0), old, prefs)
    wins = prefs @ jnp.exp(old)

    def free(values):
        return jnp.sum(jnp.exp(old) * sppo_loss(values, old, wins, eta=ETA))

    # The update, up to the constant that normalises it.
    constant = jnp.mean(old + ETA * (wins - 0.5) - hedge)
    close(jax.grad(free)(hedge + constant), 0.0)
    assert float(jnp.max(jnp.abs(jax.grad(free)(hedge + constant + 0.1)))) > 1e-3
