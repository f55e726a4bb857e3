"""Losses of ratings, marks and verdicts as the shared test sees them."""

from functools import partial

import jax.numpy as jnp
from loss_cases import Case, Sweep, integer, label, lengths_mask, prob, real

from rlhf_jax.losses.feedback import (
    binary_loss,
    cost_model_loss,
    entailment_loss,
    multi_rating_loss,
    order_bias,
    ordinal_loss,
    process_loss,
    rating_loss,
    soft_process_loss,
    verdict_loss,
    verdict_margins,
    verdict_token_loss,
)

THRESHOLDS = jnp.array([-1.0, -0.2, 0.4, 1.5])

CASES = {
    "binary": Case(binary_loss, (real(), label()), (0,)),
    "entailment": Case(partial(entailment_loss, yes=(1, 4), no=(0,)), (real(5), label()), (0,)),
    "rating": Case(rating_loss, (real(), real()), (0,)),
    "multi_rating": Case(
        multi_rating_loss, (real(3), real(3), lengths_mask(3)), (0,), mask=2, masked=(0, 1)
    ),
    "ordinal": Case(partial(ordinal_loss, thresholds=THRESHOLDS), (real(), integer(0, 5)), (0,)),
    "cost_model": Case(cost_model_loss, (real(), real(), label(), label()), (0, 1)),
    "process": Case(
        process_loss,
        (real(4), label(4), lengths_mask(4)),
        (0,),
        out=(4,),
        mask=2,
        masked=(0,),
    ),
    "soft_process": Case(
        soft_process_loss,
        (real(4), prob(4), lengths_mask(4)),
        (0,),
        out=(4,),
        extremes=False,  # p in [0, 1]
        mask=2,
        masked=(0, 1),
    ),
    "verdict_margins": Case(verdict_margins, (real(2, 2),), (0,)),
    "order_bias": Case(order_bias, (real(2, 2),), (0,)),
    "verdict": Case(verdict_loss, (real(2, 2),), (0,)),
    "verdict_token": Case(verdict_token_loss, (real(2, 2),), (0,)),
}
SWEPT: dict[str, Sweep] = {}
