"""What a reward model is trained on: comparisons that the tree has decided."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.types import PreferenceBatch, Trajectory


def winners_first(
    prefs: Int[Array, "P"], first: Float[Array, "P d"], second: Float[Array, "P d"]
) -> PreferenceBatch:
    """Pairs of inputs with the preferred one first; undecided pairs have weight 0."""
    ahead = (prefs > 0)[:, None]
    chosen, rejected = jnp.where(ahead, first, second), jnp.where(ahead, second, first)
    weights = jnp.abs(prefs).astype(first.dtype)
    return PreferenceBatch(
        Trajectory(chosen, None, None), Trajectory(rejected, None, None), weights=weights
    )
