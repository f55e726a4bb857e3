"""What a reward model is trained on: comparisons that the tree has decided."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.feedback.comparisons import EQUAL
from rlhf_jax.feedback.pairs import labels_to_pairs
from rlhf_jax.types import PreferenceBatch, Trajectory


def winners_first(
    prefs: Int[Array, "P"], first: Float[Array, "P d"], second: Float[Array, "P d"]
) -> PreferenceBatch:
    """Pairs of inputs with the preferred one first; undecided pairs have weight 0."""
    labels = jnp.where(prefs == 0, EQUAL, prefs < 0)
    items = jnp.stack([first, second], axis=1)
    one_step = jnp.ones((*items.shape[:2], 1), bool)
    trajectory = Trajectory(items, None, one_step)  # ty: ignore[invalid-argument-type]
    return labels_to_pairs(trajectory, labels)
