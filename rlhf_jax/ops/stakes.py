"""How often decisions are wrong for each group of people, by what is at stake for them.

A group has a value v for a choice between two answers: its sign says which one it prefers, its size
how much depends on that. A decision is the sign of a score: a reward's margin, a policy's log-odds.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.checks import check_ids, check_range
from rlhf_jax.ops.masking import Mean


def stake_errors(
    scores: Float[Array, "*B"],
    values: Float[Array, "*B"],
    groups: Int[Array, "*B"],
    *,
    num_groups: int,
) -> Mean:
    """Share of what is at stake for a group that is decided against it, a `Mean` of [G].

    Err_g = sum_{i in g} |v_i| 1{sign s_i != sign v_i} / sum_{i in g} |v_i|;   a tie s_i = 0 is 1/2.

    `jnp.max(known_values(errors))` is the error of the worst-off group. Values of +-1 count choices
    alike. A tie counts as what a fair coin would decide; a score that is NaN is wrong.

    Args:
      scores: [*B] s, whose sign decides.
      values: [*B] v of the group that is asked; one that is not finite is not counted.
      groups: [*B] ids; any other than 0..G-1 is not counted.
    Returns:
      Shards may add it up; weight 0 for a group with nothing at stake.
    """
    check_ids(groups=groups)
    check_range("[1, inf)", num_groups=num_groups)
    chex.assert_equal_shape([scores, values, groups])
    counted = jnp.isfinite(values)
    stakes = jnp.where(counted, jnp.abs(values), 0.0)
    wrong = jnp.where(jnp.sign(scores) == jnp.sign(values), 0.0, 1.0)
    wrong = jnp.where(scores == 0, 0.5, wrong)
    members = (groups[..., None] == jnp.arange(num_groups)) * stakes[..., None]
    axes = tuple(range(groups.ndim))
    return Mean(jnp.sum(members * wrong[..., None], axis=axes), jnp.sum(members, axis=axes))
