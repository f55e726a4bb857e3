"""From a teacher to a learner: labelled trajectories as a `PreferenceBatch`.

Both functions take trajectories with leading axes [*B, 2], items 0 and 1 of each pair.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from rlhf_jax.checks import decided
from rlhf_jax.feedback.comparisons import Comparisons
from rlhf_jax.types import PreferenceBatch, Trajectory


def to_pairs(
    trajectory: Trajectory, comparisons: Comparisons, *, drop_ties: bool = False
) -> PreferenceBatch:
    """Each pair in both orders: item 1 chosen with weight w p, item 0 with weight w (1 - p).

    The weighted mean of a pairwise loss l(chosen, rejected) is then its mean under soft labels,
    sum_b w_b [p_b l(1, 0) + (1 - p_b) l(0, 1)] / sum_b w_b, with prefs p and weights w. A tie
    counts half in each order; skipped and missing pairs do not count.

    Args:
      drop_ties: whether pairs that are called equal get weight 0.
    Returns:
      PreferenceBatch with leading axes [*B, 2] and without reference log-probs; entry i of a pair
      has item i as chosen. A minibatch of rows has both orders of each pair.
    """
    prefs, weights = comparisons.prefs, comparisons.weights
    chex.assert_tree_shape_prefix(trajectory, (*prefs.shape, 2))
    if drop_ties:
        weights = jnp.where(comparisons.equal, 0.0, weights)
    return PreferenceBatch(
        chosen=trajectory,
        rejected=jax.tree.map(lambda x: jnp.flip(x, prefs.ndim), trajectory),
        weights=weights[..., None] * jnp.stack([1.0 - prefs, prefs], axis=-1),
    )


def labels_to_pairs(trajectory: Trajectory, labels: Int[Array, "*B"]) -> PreferenceBatch:
    """Each pair once, the winner chosen; weight 0 if there is no winner.

    For hard labels without missing ones. The mean of a loss equals that with `to_pairs` and
    `drop_ties`, for half the work, and `chosen` contains only winners.

    Args:
      labels: [*B] index of the winner; any other label, e.g. EQUAL, means no winner.
    Returns:
      PreferenceBatch with leading axes [*B], without reference log-probs.
    """
    chex.assert_tree_shape_prefix(trajectory, (*labels.shape, 2))
    weights = decided(labels).astype(jnp.float32)

    def item(second: Bool[Array, "*B"]) -> Trajectory:
        def pick(x: Array) -> Array:
            zero, one = jnp.moveaxis(x, second.ndim, 0)
            at = second.reshape(*second.shape, *(1,) * (one.ndim - second.ndim))
            return jnp.where(at, one, zero)

        return jax.tree.map(pick, trajectory)

    return PreferenceBatch(
        chosen=item(labels == 1),
        rejected=item(labels != 1),
        weights=weights,
    )
