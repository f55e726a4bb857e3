"""Losses of batches of pairs in environments, or of copies, as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, integer, lengths_mask, real

from rlhf_jax.losses.robust_reward import (
    consistency_penalty,
    correlation_penalty,
    irm_loss,
    mmd_penalty,
    vrex_loss,
    worst_case_margins,
    worst_copy_loss,
)

BATCH = (real(6), integer(0, 2, 6), lengths_mask(6))
COPIES = (real(6), lengths_mask(6))
MASKED = {"trained": (0,), "mask": 2, "masked": (0,)}
vrex, irm, mmd = (partial(loss, count=2) for loss in (vrex_loss, irm_loss, mmd_penalty))

CASES = {
    "vrex": Case(partial(vrex_loss, count=2, penalty=3.0), BATCH, **MASKED),
    "irm": Case(partial(irm_loss, count=2, penalty=3.0), BATCH, **MASKED),
    "mmd": Case(partial(mmd_penalty, count=2, bandwidth=1.0), BATCH, **MASKED),
    "correlation_penalty": Case(
        correlation_penalty, (real(6), real(6), lengths_mask(6)), (0,), mask=2, masked=(0, 1)
    ),
    "worst_case_margins": Case(partial(worst_case_margins, radius=0.5), (real(), real(3)), (0, 1)),
    "worst_copy": Case(worst_copy_loss, COPIES, (0,), mask=1, masked=(0,)),
    "consistency_penalty": Case(consistency_penalty, COPIES, (0,), mask=1, masked=(0,)),
}
SWEPT = {
    "vrex": Sweep(vrex, "penalty", BATCH, (0.0, 1.0, 10.0)),
    "irm": Sweep(irm, "penalty", BATCH, (0.0, 1.0, 10.0)),
    "mmd": Sweep(mmd, "bandwidth", BATCH, (0.3, 1.0, 3.0)),
    "worst_case_margins": Sweep(worst_case_margins, "radius", (real(), real(3)), (0.0, 0.5, 2.0)),
}
