"""Losses without a reference as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, negative, real

from rlhf_jax.losses.preference.reference_free import (
    alpha_po_loss,
    cpo_loss,
    dft_loss,
    odds_ratio_loss,
    orpo_loss,
    sft_loss,
    simper_loss,
    simpo_loss,
    slic_loss,
)

MEANS = (negative(), negative())
SUMS = (real(), real())
SMOOTHING = (0.0, 0.1, 0.4)

simpo = partial(simpo_loss, beta=2.0, gamma=0.5)
alpha_po = partial(alpha_po_loss, beta=2.0, gamma=0.5, alpha=0.25)

CASES = {
    "sft": Case(sft_loss, (negative(),), (0,)),
    "dft": Case(dft_loss, (negative(4),), (0,), out=(4,), surrogate=True),
    "simpo": Case(simpo, MEANS, (0, 1)),
    "simpo_smoothed": Case(partial(simpo, label_smoothing=0.1), MEANS, (0, 1)),
    "alpha_po": Case(alpha_po, MEANS, (0, 1)),
    "alpha_po_below_0": Case(partial(alpha_po, alpha=-0.5), MEANS, (0, 1)),
    "cpo": Case(partial(cpo_loss, beta=0.3), SUMS, (0, 1)),
    "cpo_smoothed": Case(partial(cpo_loss, beta=0.3, label_smoothing=0.1), SUMS, (0, 1)),
    "odds_ratio": Case(odds_ratio_loss, MEANS, (0, 1)),
    "orpo": Case(partial(orpo_loss, beta=0.3), MEANS, (0, 1)),
    "simper": Case(simper_loss, MEANS, (0, 1)),
    "slic": Case(partial(slic_loss, delta=0.7), SUMS, (0, 1)),
}
SWEPT = {
    "simpo_gamma": Sweep(partial(simpo_loss, beta=2.0), "gamma", MEANS),
    "simpo_smoothing": Sweep(simpo, "label_smoothing", MEANS, SMOOTHING),
    "alpha_po": Sweep(
        partial(alpha_po_loss, beta=2.0, gamma=0.5), "alpha", MEANS, (-0.5, 0.0, 1.0)
    ),
    "cpo_smoothing": Sweep(partial(cpo_loss, beta=0.3), "label_smoothing", SUMS, SMOOTHING),
    "slic": Sweep(slic_loss, "delta", SUMS),
}
