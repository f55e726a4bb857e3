"""Contrastive losses as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, lengths_mask, real

from rlhf_jax.losses.contrastive import simcse_loss, swav_loss

ITEMS, FEATURES, PROTOTYPES = 5, 4, 3
VIEWS = (real(ITEMS, FEATURES), real(ITEMS, FEATURES))
ASSIGNED = (*VIEWS, real(PROTOTYPES, FEATURES))
MASK = lengths_mask(ITEMS)
simcse, swav = partial(simcse_loss, temperature=0.5), partial(swav_loss, temperature=0.5)

CASES = {
    "simcse": Case(simcse, VIEWS, (0, 1), out=(ITEMS,)),
    "simcse_masked": Case(simcse, (*VIEWS, MASK), (0, 1), out=(ITEMS,)),
    "swav": Case(swav, ASSIGNED, (0, 1, 2), out=(ITEMS,), surrogate=True),
    "swav_masked": Case(swav, (*ASSIGNED, MASK), (0, 1, 2), out=(ITEMS,), surrogate=True),
}
SWEPT = {
    "simcse": Sweep(simcse_loss, "temperature", VIEWS),
    "swav": Sweep(swav_loss, "temperature", ASSIGNED),
    "swav eps": Sweep(swav, "eps", ASSIGNED),
}
