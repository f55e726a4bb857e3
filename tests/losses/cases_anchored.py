"""Pairwise losses with an anchor, and those that sort a batch, as the shared test sees them."""

from collections.abc import Callable
from functools import partial

from loss_cases import Case, Sweep, label, real

from rlhf_jax.losses.preference.anchored import (
    aot_loss,
    aot_unpaired_loss,
    apo_down_loss,
    apo_zero_loss,
    bco_pair_loss,
    cal_dpo_loss,
    dpop_loss,
    nca_loss,
    sppo_hard_loss,
)

PAIR = (real(), real(), real(), real())
BATCH = (real(5), real(5), real(5), real(5))  # five pairs that see each other
SMOOTHING = (0.0, 0.1, 0.4)

aot = partial(aot_loss, beta=0.3)
aot_unpaired = partial(aot_unpaired_loss, beta=0.3)


def masked(loss: Callable) -> Case:
    """The loss with a mask over the pairs as its fifth input."""
    return Case(loss, (*BATCH, label(5)), (0, 1), out=(5,), mask=4, masked=(0, 1, 2, 3))


CASES = {
    "nca": Case(partial(nca_loss, beta=0.3), PAIR, (0, 1)),
    "bco_pair": Case(partial(bco_pair_loss, beta=0.3), PAIR, (0, 1)),
    "bco_pair_shifted": Case(partial(bco_pair_loss, beta=0.3, shift=0.2), PAIR, (0, 1)),
    "sppo_hard": Case(partial(sppo_hard_loss, beta=0.3), PAIR, (0, 1)),
    "apo_zero": Case(partial(apo_zero_loss, beta=0.3), PAIR, (0, 1)),
    "apo_down": Case(partial(apo_down_loss, beta=0.3), PAIR, (0, 1)),
    "dpop": Case(partial(dpop_loss, beta=0.3, penalty=5.0), PAIR, (0, 1)),
    "cal_dpo": Case(partial(cal_dpo_loss, beta=0.3), PAIR, (0, 1)),
    "aot": Case(aot, BATCH, (0, 1), out=(5,)),
    "aot_smoothed": Case(partial(aot, label_smoothing=0.1), BATCH, (0, 1), out=(5,)),
    "aot_unpaired": Case(aot_unpaired, BATCH, (0, 1), out=(5,)),
    "aot_masked": masked(aot),
    "aot_unpaired_masked": masked(aot_unpaired),
}
SWEPT = {
    "bco_pair_shift": Sweep(partial(bco_pair_loss, beta=0.3), "shift", PAIR),
    "dpop_penalty": Sweep(partial(dpop_loss, beta=0.3), "penalty", PAIR),
    "aot_smoothing": Sweep(aot, "label_smoothing", BATCH, SMOOTHING),
}
