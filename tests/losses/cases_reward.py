"""Reward-model losses as the shared test sees them."""

from loss_cases import Case, Sweep, real

from rlhf_jax.losses.reward import bradley_terry_loss

CASES = {"bradley_terry": Case(bradley_terry_loss, (real(), real()), (0, 1))}
SWEPT: dict[str, Sweep] = {}
