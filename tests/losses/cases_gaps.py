"""Losses of gap reward models as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, real

from rlhf_jax.losses.gaps import GAP_TERMS, gap_loss, gap_shift

CASES = {
    "gap": Case(gap_loss, (real(2, 2),), (0,)),
    "gap of five terms": Case(
        partial(gap_loss, terms=(*GAP_TERMS, ("wl", "lw"))), (real(2, 2),), (0,)
    ),
    "gap_shift": Case(gap_shift, (real(2, 2),), (0,)),
}
SWEPT: dict[str, Sweep] = {}
