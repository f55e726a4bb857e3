"""Losses of ranked lists as the shared test sees them."""

from functools import partial

import numpy as np
from loss_cases import Case, Sweep, lengths_mask, negative, real

from rlhf_jax.losses.preference.ranking import (
    lipo_loss,
    lire_loss,
    pl_dpo_loss,
    pro_loss,
    pro_sft_loss,
    rrhf_loss,
)

CANDIDATES = 4
MASK = lengths_mask(CANDIDATES)


def falling(rng, lead, dtype):
    """[*lead, K] scores in [0, 1], best first."""
    return -np.sort(-rng.uniform(size=(*lead, CANDIDATES)), axis=-1).astype(dtype)


IMITATED = (negative(CANDIDATES), MASK)
RANKED = (real(CANDIDATES), real(CANDIDATES), MASK)
SCORED = (negative(CANDIDATES), falling, MASK)
LISTED = (real(CANDIDATES), real(CANDIDATES), falling, MASK)

CASES = {
    "pl_dpo": Case(partial(pl_dpo_loss, beta=0.3), RANKED, (0,), mask=2, masked=(0, 1)),
    "pro": Case(pro_loss, SCORED, (0,), mask=2, masked=(0, 1)),
    "pro_sft": Case(partial(pro_sft_loss, sft_weight=0.3), IMITATED, (0,), mask=1, masked=(0,)),
    "rrhf": Case(rrhf_loss, SCORED, (0,), mask=2, masked=(0, 1)),
    "lipo": Case(partial(lipo_loss, beta=0.3), LISTED, (0,), mask=3, masked=(0, 1, 2)),
    "lire": Case(partial(lire_loss, temperature=2.0), RANKED, (0,), mask=2, masked=(0, 1)),
}
SWEPT = {
    "pro_sft": Sweep(pro_sft_loss, "sft_weight", IMITATED),
    "lire": Sweep(lire_loss, "temperature", RANKED),
}
