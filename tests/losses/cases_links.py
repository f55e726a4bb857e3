"""Links as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, prob, real

from rlhf_jax.losses import links

CASES = {
    "logistic": Case(links.logistic, (real(),), (0,)),
    "soft_logistic": Case(
        links.soft_logistic, (real(), prob()), (0,), extremes=False
    ),  # p in [0, 1]
    "smoothed_logistic": Case(
        partial(links.smoothed_logistic, label_smoothing=0.1), (real(),), (0,)
    ),
    "robust_logistic": Case(partial(links.robust_logistic, label_smoothing=0.1), (real(),), (0,)),
    "hinge": Case(links.hinge, (real(scale=2.0),), (0,)),
    "squared": Case(links.squared, (real(), real()), (0,)),
    "exo_link": Case(partial(links.exo, label_smoothing=0.1), (real(),), (0,)),
    "discopop_link": Case(links.discopop, (real(),), (0,)),
}
SWEPT = {
    "smoothed_logistic": Sweep(
        links.smoothed_logistic, "label_smoothing", (real(),), (0.0, 0.1, 0.4)
    ),
    "robust_logistic": Sweep(links.robust_logistic, "label_smoothing", (real(),), (0.0, 0.1, 0.4)),
    "exo_link": Sweep(links.exo, "label_smoothing", (real(),), (0.01, 0.1, 0.4)),
    "discopop_link": Sweep(links.discopop, "temperature", (real(),)),
}
