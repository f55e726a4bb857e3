"""Losses of users who differ, and the Gaussians of their latents, as the shared test sees them."""

from functools import partial

from loss_cases import Case, lengths_mask, real

from rlhf_jax.losses.users import vpl_loss
from rlhf_jax.ops.gaussians import diagonal_normal_kl, gaussian_draws, standard_normal_kl

USER = (real(4), real(4), real(), lengths_mask(4))
GAUSSIAN = (real(3), real(3))

CASES = {
    "vpl": Case(partial(vpl_loss, beta=0.3), USER, (0, 1, 2), mask=3, masked=(0, 1)),
    "standard_normal_kl": Case(standard_normal_kl, GAUSSIAN, (0, 1)),
    "diagonal_normal_kl": Case(diagonal_normal_kl, (*GAUSSIAN, *GAUSSIAN), (0, 1, 2, 3)),
    "gaussian_draws": Case(gaussian_draws, (*GAUSSIAN, real(3)), (0, 1, 2), out=(3,)),
}
SWEPT = {}
