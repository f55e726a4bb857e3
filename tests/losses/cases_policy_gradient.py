"""Policy-gradient losses as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, real

from rlhf_jax.losses.policy_gradient import clipped_value_loss, ppo_clip_loss, reinforce_loss

TRIPLE = (real(), real(), real())

CASES = {
    "reinforce": Case(reinforce_loss, (real(), real()), (0,)),
    "ppo_clip": Case(partial(ppo_clip_loss, clip_eps=0.2), TRIPLE, (0,)),
    "clipped_value": Case(partial(clipped_value_loss, clip_eps=0.2), TRIPLE, (0,)),
}
SWEPT = {
    "ppo_clip": Sweep(ppo_clip_loss, "clip_eps", TRIPLE),
    "clipped_value": Sweep(clipped_value_loss, "clip_eps", TRIPLE),
}
