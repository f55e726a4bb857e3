"""Losses of single answers as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, label, real

from rlhf_jax.losses.preference.unpaired import (
    apo_zero_unpaired_loss,
    bco_loss,
    dro_loss,
    kto_loss,
    npo_loss,
    pmpo_loss,
    pointwise_dpo_loss,
)

LABELLED = (real(), real(), label())
SCORED = (real(), real(), real(), real())

kto = partial(kto_loss, kl=0.2, beta=0.3)
bco = partial(bco_loss, beta=0.3, shift=0.2)

CASES = {
    "kto": Case(kto, LABELLED, (0,)),
    "kto_weighted": Case(
        partial(kto, desirable_weight=1.3, undesirable_weight=0.7), LABELLED, (0,)
    ),
    "apo_zero_unpaired": Case(partial(apo_zero_unpaired_loss, beta=0.3), LABELLED, (0,)),
    "bco": Case(bco, LABELLED, (0,)),
    "dro": Case(partial(dro_loss, beta=0.3), SCORED, (0, 3)),
    "npo": Case(partial(npo_loss, beta=0.3), (real(), real()), (0,)),
    "pointwise_dpo": Case(partial(pointwise_dpo_loss, beta=0.3), LABELLED, (0,)),
    "pmpo": Case(partial(pmpo_loss, alpha=0.3, beta=0.5), LABELLED, (0, 1)),
}
SWEPT = {
    "kto_kl": Sweep(partial(kto_loss, beta=0.3), "kl", LABELLED),
    "kto_desirable": Sweep(kto, "desirable_weight", LABELLED),
    "kto_undesirable": Sweep(kto, "undesirable_weight", LABELLED),
    "bco_shift": Sweep(partial(bco_loss, beta=0.3), "shift", LABELLED),
    "pmpo alpha": Sweep(partial(pmpo_loss, beta=0.5), "alpha", LABELLED, (0.05, 0.3, 1.0)),
}
