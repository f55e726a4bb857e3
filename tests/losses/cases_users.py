"""Losses of users who differ, and the Gaussians of their latents, as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, lengths_mask, prob, real

from rlhf_jax.losses.users import vpl_loss
from rlhf_jax.ops.gaussians import (
    diagonal_normal_kl,
    diagonal_normal_logps,
    gaussian_draws,
    standard_normal_kl,
    tanh_normal_logps,
)

USER = (real(4), real(4), real(), lengths_mask(4))
GAUSSIAN = (real(3), real(3))

CASES = {
    "vpl": Case(partial(vpl_loss, beta=0.3), USER, (0, 1, 2), mask=3, masked=(0, 1)),
    "standard_normal_kl": Case(standard_normal_kl, GAUSSIAN, (0, 1)),
    "diagonal_normal_kl": Case(diagonal_normal_kl, (*GAUSSIAN, *GAUSSIAN), (0, 1, 2, 3)),
    "diagonal_normal_logps": Case(diagonal_normal_logps, (*GAUSSIAN, real(3)), (0, 1, 2)),
    # Actions lie in a box; those at its edge and beyond are in test_gaussians.
    "tanh_normal_logps": Case(
        partial(tanh_normal_logps, limit=2.0), (*GAUSSIAN, prob(3)), (0, 1, 2), extremes=False
    ),
    "gaussian_draws": Case(gaussian_draws, (*GAUSSIAN, real(3)), (0, 1, 2), out=(3,)),
}
SWEPT = {
    "tanh_normal_logps limit": Sweep(
        tanh_normal_logps, "limit", (*GAUSSIAN, prob(3)), (1.0, 2.0, 5.0)
    ),
    "tanh_normal_logps edge": Sweep(
        tanh_normal_logps, "edge", (*GAUSSIAN, prob(3)), (1e-5, 1e-3, 0.1)
    ),
}
