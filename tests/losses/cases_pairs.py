"""Pairwise losses with a reference, and what goes into them, as the shared test sees them."""

from functools import partial

import jax.numpy as jnp
from loss_cases import Case, Sweep, integer, lengths_mask, prob, real

from rlhf_jax.losses import links
from rlhf_jax.losses.preference import offsets, pairs, robust, scores

PAIR = (real(), real(), real(), real())
GROUPS = jnp.array([0.2, 0.5, 0.3])
TOKENS = (real(4), lengths_mask(4))


def pair(loss, *more, trained=(0, 1), **kwargs):
    """A case of a loss on four arrays and perhaps a fifth."""
    return Case(partial(loss, **kwargs), (*PAIR, *more), trained)


CASES = {
    "dpo": pair(pairs.dpo_loss, beta=0.3),
    "cdpo": pair(pairs.cdpo_loss, beta=0.3, label_smoothing=0.1),
    "robust_dpo": pair(pairs.robust_dpo_loss, beta=0.3, label_smoothing=0.1),
    "soft_preference": Case(
        partial(pairs.soft_preference_loss, beta=0.3), (*PAIR, prob()), (0, 1), extremes=False
    ),  # p in [0, 1]
    "geometric_dpo": Case(
        partial(pairs.geometric_dpo_loss, beta=0.3), (*PAIR, prob()), (0, 1), extremes=False
    ),  # p in [0, 1]
    "hinge_dpo": pair(pairs.hinge_dpo_loss, beta=0.3),
    "ipo": pair(pairs.ipo_loss, beta=0.3),
    "exo": pair(pairs.exo_loss, beta=0.3, label_smoothing=0.1),
    "discopop": pair(pairs.discopop_loss, beta=0.3),
    "gpo": pair(pairs.gpo_loss, beta=0.3, link=links.logistic),
    "f_dpo": pair(pairs.f_dpo_loss, beta=0.3, score=scores.forward_kl_score),
    "f_dpo_chi_squared": pair(pairs.f_dpo_loss, beta=0.3, score=scores.chi_squared_score),
    "odpo": pair(offsets.odpo_loss, real(), beta=0.3),
    "mallows_dpo": pair(offsets.mallows_dpo_loss, real(), beta=0.3),
    "r_dpo": pair(offsets.r_dpo_loss, real(scale=5.0), beta=0.3, alpha=0.2),
    "tdpo": pair(offsets.tdpo_loss, real(), trained=(0, 1, 4), beta=0.3, alpha=0.5),
    "rebel": pair(offsets.rebel_loss, real(), beta=0.3),
    "xpo": pair(offsets.xpo_loss, real(), trained=(0, 1, 4), beta=0.3, alpha=0.1),
    "alpha_dpo": pair(
        offsets.alpha_dpo_loss, beta=0.3, gamma=0.2, alpha=0.5, mean=0.1, std=0.7
    )._replace(surrogate=True),
    "ropo": pair(robust.ropo_loss, beta=0.3, alpha=3.0),
    "mixture": Case(partial(robust.mixture_loss, weights=GROUPS), (real(3),), (0,)),
    "sequence_kl_gaps": Case(
        offsets.sequence_kl_gaps,
        (real(3), real(5), lengths_mask(3), lengths_mask(5)),
        (1,),
    ),
    "forward_kl_score": Case(scores.forward_kl_score, (real(),), (0,)),
    "js_score": Case(scores.js_score, (real(),), (0,)),
    "alpha_score": Case(partial(scores.alpha_score, alpha=0.3), (real(),), (0,)),
    "chi_squared_score": Case(scores.chi_squared_score, (real(),), (0,)),
    "ld_logps": Case(
        partial(scores.ld_logps, alpha=0.3), (*TOKENS, integer(1, 5)), (0,), mask=1, masked=(0,)
    ),
    "discounted_logps": Case(
        partial(scores.discounted_logps, gamma=0.7), TOKENS, (0,), mask=1, masked=(0,)
    ),
    "weighted_logps": Case(scores.weighted_logps, (*TOKENS, real(4)), (0,), mask=1, masked=(0, 2)),
}
SMOOTHING = (0.0, 0.1, 0.4)
SWEPT = {
    "cdpo h": Sweep(partial(pairs.cdpo_loss, beta=0.3), "label_smoothing", PAIR, SMOOTHING),
    "robust_dpo h": Sweep(
        partial(pairs.robust_dpo_loss, beta=0.3), "label_smoothing", PAIR, SMOOTHING
    ),
    "exo h": Sweep(partial(pairs.exo_loss, beta=0.3), "label_smoothing", PAIR, (0.01, 0.1, 0.4)),
    "discopop temperature": Sweep(partial(pairs.discopop_loss, beta=0.3), "temperature", PAIR),
    "r_dpo alpha": Sweep(partial(offsets.r_dpo_loss, beta=0.3), "alpha", (*PAIR, real())),
    "tdpo alpha": Sweep(partial(offsets.tdpo_loss, beta=0.3), "alpha", (*PAIR, real())),
    "xpo alpha": Sweep(partial(offsets.xpo_loss, beta=0.3), "alpha", (*PAIR, real())),
    "alpha_dpo alpha": Sweep(partial(offsets.alpha_dpo_loss, beta=0.3, gamma=0.2), "alpha", PAIR),
    "alpha_dpo std": Sweep(
        partial(offsets.alpha_dpo_loss, beta=0.3, gamma=0.2, alpha=0.5), "std", PAIR
    ),
    "ropo alpha": Sweep(partial(robust.ropo_loss, beta=0.3), "alpha", PAIR, (1.0, 3.0, 14.0)),
    "alpha_score": Sweep(scores.alpha_score, "alpha", (real(),), (0.0, 1.0, 2.5)),
    "ld_logps": Sweep(scores.ld_logps, "alpha", (*TOKENS, integer(1, 3)), (0.05, 0.3, 1.0)),
    "discounted_logps": Sweep(scores.discounted_logps, "gamma", TOKENS, (0.1, 0.5, 1.0)),
}
