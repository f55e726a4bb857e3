"""Losses of selected answers, as the shared test sees them."""

from functools import partial

from loss_cases import Case, integer, lengths_mask, real

from rlhf_jax.losses.supervised import superhf_loss
from rlhf_jax.ops.kl import exact_kl

T, A = 4, 5
SELECTED = (real(T, A), real(T, A), integer(0, A, T), lengths_mask(T))

CASES = {
    "superhf": Case(partial(superhf_loss, beta=0.3), SELECTED, (0,), out=(T,), mask=3),
    "superhf, reverse": Case(
        partial(superhf_loss, beta=0.3, divergence=exact_kl), SELECTED, (0,), out=(T,), mask=3
    ),
}
SWEPT = {}
