"""A shop with three goods of one kind, a message about them, and what becomes of the customer.

State s in {0,1}^3: which goods have the feature that is wanted. Message m in {0,1}^3: which are
said to have it. The customer trusts the message, buys the cheapest good that is said to have the
feature, and nothing if none is. States and messages are numbers 0..7, bit i of good i.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

PRICES = (3, 2, 1)
GOODS = len(PRICES)
STATES = 2**GOODS
NONE = 0.4  # P that no good has the feature; the other states are equally likely
TRUTH = 0.5  # share of the reference's messages that are meant to be true; the others are any


class Market(NamedTuple):
    """prior: [S]. ref_logits, utility, satisfaction: [S, M] of a message in a state: the reference,
    what the purchase is worth, and how content the customer is before it."""

    prior: Array
    ref_logits: Array
    utility: Array
    satisfaction: Array


def bits() -> Bool[np.ndarray, "S G"]:
    """Row n: the goods of state or message n."""
    return (np.arange(STATES)[:, None] >> np.arange(GOODS)) % 2 == 1


def true_utility(state: np.ndarray, message: np.ndarray) -> float:
    """0 without a purchase, -1 for a good that lacks the feature, else the lowest price of a right
    good over the price paid; state and message [G] bool."""
    if not message.any():
        return 0.0
    bought = min(np.flatnonzero(message), key=lambda good: PRICES[good])
    if not state[bought]:
        return -1.0
    return min(PRICES[good] for good in np.flatnonzero(state)) / PRICES[bought]


def open_market() -> Market:
    """The tables."""
    rows = bits()
    utility = np.array([[true_utility(state, message) for message in rows] for state in rows])
    claimed = rows.any(-1).astype(float)
    prior = np.full(STATES, (1 - NONE) / (STATES - 1))
    prior[0] = NONE
    ref = TRUTH * np.eye(STATES) + (1 - TRUTH) / STATES
    tables = (prior, np.log(ref), utility, np.tile(claimed, (STATES, 1)))
    return Market(*(jnp.asarray(x, jnp.float32) for x in tables))


def means(market: Market, logits: Float[Array, "*B S M"]) -> Float[Array, "*B 3"]:
    """Exact means over the prior: utility, satisfaction, probability of the true message."""
    probs = jax.nn.softmax(logits)
    tables = jnp.stack([market.utility, market.satisfaction, jnp.eye(STATES)])
    return jnp.einsum("s,...sm,ksm->...k", market.prior, probs, tables)
