"""Policy-gradient losses as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, real

from rlhf_jax.losses.policy_gradient import (
    asymmetric_clip_loss,
    cispo_loss,
    clipped_value_loss,
    dual_clip_loss,
    ppo_clip_loss,
    reinforce_loss,
    sapo_loss,
    value_loss,
)

TRIPLE = (real(), real(), real())

asymmetric = partial(asymmetric_clip_loss, clip_eps_low=0.2, clip_eps_high=0.28)
dual = partial(dual_clip_loss, clip_eps=0.2, dual_clip=1.5)
cispo = partial(cispo_loss, max_ratio=1.3)
sapo = partial(sapo_loss, tau_positive=1.0, tau_negative=1.05)

CASES = {
    "reinforce": Case(reinforce_loss, (real(), real()), (0,)),
    "ppo_clip": Case(partial(ppo_clip_loss, clip_eps=0.2), TRIPLE, (0,)),
    "asymmetric_clip": Case(asymmetric, TRIPLE, (0,)),
    "dual_clip": Case(dual, TRIPLE, (0,)),
    "cispo": Case(cispo, TRIPLE, (0,), surrogate=True),
    "sapo": Case(sapo, TRIPLE, (0,)),
    "value": Case(value_loss, (real(), real()), (0,)),
    "clipped_value": Case(partial(clipped_value_loss, clip_eps=0.2), TRIPLE, (0,)),
}
# partial: a keyword in the call overrides the one of the case.
SWEPT = {
    "ppo_clip": Sweep(ppo_clip_loss, "clip_eps", TRIPLE),
    "asymmetric_clip low": Sweep(asymmetric, "clip_eps_low", TRIPLE),
    "asymmetric_clip high": Sweep(asymmetric, "clip_eps_high", TRIPLE),
    "dual_clip clip": Sweep(dual, "clip_eps", TRIPLE),
    "dual_clip": Sweep(dual, "dual_clip", TRIPLE, (1.1, 1.3, 2.0)),
    "cispo": Sweep(cispo, "max_ratio", TRIPLE),
    "sapo positive": Sweep(sapo, "tau_positive", TRIPLE),
    "sapo negative": Sweep(sapo, "tau_negative", TRIPLE),
    "clipped_value": Sweep(clipped_value_loss, "clip_eps", TRIPLE),
}
