"""Pairwise losses with a reference as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, real

from rlhf_jax.losses.preference import dpo_loss, ipo_loss

PAIR = (real(), real(), real(), real())

CASES = {
    "dpo": Case(partial(dpo_loss, beta=0.3), PAIR, (0, 1)),
    "ipo": Case(partial(ipo_loss, beta=0.3), PAIR, (0, 1)),
}
SWEPT = {
    "dpo": Sweep(dpo_loss, "beta", PAIR),
    "ipo": Sweep(ipo_loss, "beta", PAIR),
}
