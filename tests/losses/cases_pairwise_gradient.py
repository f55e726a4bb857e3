"""Pairwise policy gradients as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, real

from rlhf_jax.losses.pairwise_gradient import p3o_v1_loss, p3o_v2_loss, pairwise_gradient_loss

K = 3
GROUPS = (real(K), real(K), real(K))

v1 = partial(p3o_v1_loss, clip_eps=0.2)
v2 = partial(p3o_v2_loss, clip_eps=0.2, weight_clip_eps=0.5)

CASES = {
    "pairwise_gradient": Case(pairwise_gradient_loss, (real(K), real(K)), (0,)),
    "p3o_v1": Case(v1, GROUPS, (0,), surrogate=True),
    "p3o_v2": Case(v2, GROUPS, (0,), surrogate=True),
}
SWEPT = {
    "p3o_v1": Sweep(p3o_v1_loss, "clip_eps", GROUPS),
    "p3o_v2": Sweep(p3o_v2_loss, "clip_eps", GROUPS),
    "p3o_v2 weight": Sweep(v2, "weight_clip_eps", GROUPS),
}
