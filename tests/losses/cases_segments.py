"""Contrastive preference learning as the shared test sees it."""

from functools import partial

from loss_cases import Case, Sweep, lengths_mask, prob, real

from rlhf_jax.losses.preference.segments import (
    cpl_kl_loss,
    cpl_loss,
    ranked_cpl_loss,
    segment_advantages,
    soft_cpl_loss,
)

STEPS = (real(5), lengths_mask(5))
PAIR = (real(), real())
SOFT = (*PAIR, prob())
GROUP = (real(4), real(4), lengths_mask(4))

CASES = {
    "segment_advantages": Case(
        partial(segment_advantages, alpha=0.3, gamma=0.9), STEPS, (0,), mask=1, masked=(0,)
    ),
    "cpl": Case(partial(cpl_loss, bias=0.5), PAIR, (0, 1)),
    "cpl_kl": Case(partial(cpl_kl_loss, beta=0.3, bias=0.5), (*PAIR, *PAIR), (0, 1)),
    "soft_cpl": Case(partial(soft_cpl_loss, bias=0.5), SOFT, (0, 1), extremes=False),  # p in [0, 1]
    "ranked_cpl": Case(partial(ranked_cpl_loss, bias=0.5), GROUP, (0,), mask=2, masked=(0, 1)),
}
SWEPT = {
    "segment_advantages": Sweep(segment_advantages, "alpha", STEPS),
    "cpl": Sweep(cpl_loss, "bias", PAIR, (0.1, 0.5, 1.0)),
    "cpl_kl": Sweep(partial(cpl_kl_loss, beta=0.3), "bias", (*PAIR, *PAIR), (0.1, 0.5, 1.0)),
    "soft_cpl": Sweep(soft_cpl_loss, "bias", SOFT, (0.1, 0.5, 1.0)),
    "ranked_cpl": Sweep(ranked_cpl_loss, "bias", GROUP, (0.1, 0.5, 1.0)),
}
