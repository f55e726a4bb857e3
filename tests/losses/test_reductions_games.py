"""What reduces to what among the objectives of games; rows and check as in `test_reductions`."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from game_population import all_pairs, labelled, pair_weights, random_game
from reduction_forms import (
    ANSWERS,
    BETA,
    LISTS,
    PAIR,
    PREFS,
    REF,
    SCORES,
    STEPS,
    Row,
    assert_reduces,
    full,
)

from rlhf_jax.losses import games, policy_gradient
from rlhf_jax.losses import preference as p
from rlhf_jax.ops import masking

ETA = 2.0
OLD_GAPS = PREFS - 0.5
LOGITS, REF_LOGITS, OLD_LOGITS = LISTS[0][:3]  # of four answers

ipo = partial(p.ipo_loss, beta=BETA)
first_ipo = partial(games.online_ipo_loss, beta=BETA)
second_ipo = partial(games.online_ipo_v2_loss, beta=BETA)
inpo = partial(games.inpo_loss, eta=ETA)
onpo = partial(games.onpo_loss, eta=ETA)


def regression_to_the_reference(chosen, rejected, ref_chosen, ref_rejected):
    gaps, targets = ref_chosen - ref_rejected, jnp.full_like(chosen, 0.5 / BETA)
    return games.pairwise_regression_loss(chosen, rejected, gaps, targets)


def mnpo(*weights):
    """MNPO with the reference and the last policy as anchors."""

    def loss(chosen, rejected, ref_chosen, ref_rejected, old_gaps):
        anchors = [jnp.stack(x, -1) for x in ((ref_chosen, old_gaps), (ref_rejected, 0 * old_gaps))]
        return games.mnpo_loss(chosen, rejected, *anchors, weights=jnp.array(weights), eta=ETA)

    return loss


def population(of_game):
    """A sum over all answers or pairs of a small game, as a function of two tables of logits."""

    def loss(logits, other_logits):
        other = jax.lax.stop_gradient(jax.nn.log_softmax(other_logits))
        return of_game(random_game(0)[0], jax.nn.log_softmax(logits), other)

    return loss


def sppo_of_labels(game, logps, old):
    def hard(logps):
        return p.sppo_hard_loss(*all_pairs(logps), *all_pairs(old), beta=1 / ETA)

    return labelled(game, old, hard)(logps)


def sppo_of_win_rates(game, logps, old):
    return 2 * jnp.sum(jnp.exp(old) * games.sppo_loss(logps, old, game @ jnp.exp(old), eta=ETA))


def inpo_of_labels(game, logps, old):
    def hard(logps):
        first, second = all_pairs(old)
        pairs = *all_pairs(logps), *all_pairs(jnp.zeros(4))
        return inpo(*pairs, first - second, beta=0.0)

    return labelled(game, old, hard)(logps)


def regression_on_win_rates(game, logps, old):
    rates = game @ jnp.exp(old)
    gaps, targets = ((x[:, None] - x) for x in (old, ETA * rates))
    losses = games.pairwise_regression_loss(*all_pairs(logps), gaps, targets)
    return jnp.sum(pair_weights(old) * losses)


def self_play_by_regression(game, logps, ref):
    drawn = jax.lax.stop_gradient(pair_weights(logps))
    losses = second_ipo(*all_pairs(logps), *all_pairs(ref), game)
    return BETA / 4 * jnp.sum(drawn * losses)


def self_play_by_policy_gradient(game, logps, ref):
    drawn = jax.lax.stop_gradient(pair_weights(logps))
    tokens, ref_tokens = (all_pairs(x)[0][..., None] for x in (logps, ref))
    mask = jnp.ones((4, 4, 1), bool)
    return jnp.sum(drawn * games.nash_md_pg_loss(tokens, ref_tokens, game, mask, beta=BETA))


def reinforce(logps, ref_logps, prefs, mask):
    advantages = jnp.broadcast_to(prefs[..., None] - 0.5, mask.shape)
    losses = policy_gradient.reinforce_loss(logps, advantages)
    return masking.masked_sum(losses, mask, axis=-1)


FIVE = (*PAIR, OLD_GAPS)
TWO_TABLES = (LOGITS, OLD_LOGITS)
TOKENS = (ANSWERS, REF, SCORES, STEPS)
ROWS = {
    "pairwise regression | anchor mu, target 1 / (2 beta) | IPO": Row(
        regression_to_the_reference, ipo, PAIR
    ),
    "online IPO v1 | winner and loser: gap 1/2 | IPO": Row(full(0.5)(first_ipo), ipo, PAIR),
    "online IPO v1 | gap P(y > y') - 1/2 | online IPO v2": Row(
        lambda *x: first_ipo(*x[:4], x[4] - 0.5), second_ipo, (*PAIR, PREFS)
    ),
    "online IPO v1 | reward gaps for win-rate gaps | REBEL, over beta^2": Row(
        first_ipo, lambda *x: p.rebel_loss(*x, beta=BETA) / BETA**2, FIVE
    ),
    "online IPO v2 | hard label | IPO": Row(full(1.0)(second_ipo), ipo, PAIR),
    "INPO | eta beta = 1 (best response) | IPO": Row(
        partial(inpo, beta=1 / ETA),
        lambda *x: p.ipo_loss(*x[:4], beta=1 / ETA),
        FIVE,
    ),
    "INPO | first round, pi_t = mu | IPO, beta 1 / eta": Row(
        lambda *x: inpo(*x, x[2] - x[3], beta=0.1), partial(p.ipo_loss, beta=1 / ETA), PAIR
    ),
    "INPO | beta 0 | ONPO from pi_t": Row(
        lambda *x: inpo(*x[:2], 0 * x[2], 0 * x[3], x[2] - x[3], beta=0.0), onpo, PAIR
    ),
    "ONPO | base mu | IPO, beta 1 / eta": Row(onpo, partial(p.ipo_loss, beta=1 / ETA), PAIR),
    "TD-MNPO | lambda = (1) | INPO": Row(mnpo(0.2, 0.8), partial(inpo, beta=0.1), FIVE),
    "TD-MNPO | rho = 1 | IPO, beta 1 / eta": Row(
        mnpo(1.0, 0.0), lambda *x: p.ipo_loss(*x[:4], beta=1 / ETA), FIVE
    ),
    "SPPO, hard | mean over labels | SPPO, soft": Row(
        population(sppo_of_labels), population(sppo_of_win_rates), TWO_TABLES, value=False
    ),
    "INPO, winner and loser | pairs from pi_t | win rates against pi_t": Row(
        population(inpo_of_labels), population(regression_on_win_rates), TWO_TABLES, value=False
    ),
    "Nash-MD-PG | opponent pi | online IPO v2, beta / 4": Row(
        population(self_play_by_policy_gradient),
        population(self_play_by_regression),
        (LOGITS, REF_LOGITS),
        value=False,
    ),
    "Nash-MD-PG, own-token KL | one-token answers | Nash-MD-PG": Row(
        partial(games.nash_md_pg_token_loss, beta=BETA),
        partial(games.nash_md_pg_loss, beta=BETA),
        tuple(x[..., :1] if x.ndim == 3 else x for x in TOKENS),
    ),
    "Nash-MD-PG | beta 0 | REINFORCE, advantage P - 1/2": Row(
        partial(games.nash_md_pg_loss, beta=0.0), reinforce, TOKENS
    ),
}


@pytest.fixture(autouse=True)
def double():
    """float64 while a test runs."""
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", ROWS)
def test_one_game_objective_reduces_to_the_other(name):
    assert_reduces(ROWS[name])
