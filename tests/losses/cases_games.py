"""Objectives of preference games as the shared test sees them."""

from functools import partial

import jax.numpy as jnp
from loss_cases import Case, Sweep, lengths_mask, prob, real

from rlhf_jax.losses import games

PAIR = (real(), real(), real(), real())
FIVE = (*PAIR, real())
JUDGED = (*PAIR, prob())
ANCHORED = (real(), real(), real(3), real(3))
TOKENS = (real(4), real(4), prob(), lengths_mask(4))


# With a reference and two old policies.
mnpo = partial(games.mnpo_loss, weights=jnp.array([0.25, 0.5, 0.25]))


def tokens(loss):
    return Case(partial(loss, beta=0.3), TOKENS, (0,), mask=3, masked=(0, 1), surrogate=True)


CASES = {
    "pairwise_regression": Case(games.pairwise_regression_loss, PAIR, (0, 1)),
    "online_ipo": Case(partial(games.online_ipo_loss, beta=0.3), FIVE, (0, 1)),
    "online_ipo_v2": Case(partial(games.online_ipo_v2_loss, beta=0.3), JUDGED, (0, 1)),
    "inpo": Case(partial(games.inpo_loss, beta=0.3, eta=0.4), FIVE, (0, 1)),
    "onpo": Case(partial(games.onpo_loss, eta=2.0), PAIR, (0, 1)),
    "mnpo": Case(partial(mnpo, eta=2.0), ANCHORED, (0, 1)),
    "sppo": Case(partial(games.sppo_loss, eta=2.0), (real(), real(), prob()), (0,)),
    "nash_md_pg": tokens(games.nash_md_pg_loss),
    "nash_md_pg_token": tokens(games.nash_md_pg_token_loss),
}
SWEPT = {
    "inpo eta": Sweep(partial(games.inpo_loss, beta=0.4), "eta", FIVE),
    "onpo": Sweep(games.onpo_loss, "eta", PAIR),
    "mnpo": Sweep(mnpo, "eta", ANCHORED),
    "sppo": Sweep(games.sppo_loss, "eta", (real(), real(), prob())),
}
