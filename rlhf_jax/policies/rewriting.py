"""Rows in which a language model reads one answer and writes another."""

from collections.abc import Callable

import chex
import jax.numpy as jnp

from rlhf_jax.checks import check_range
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.types import Trajectory


def language_rewriting(*, separator: int) -> Callable[[Trajectory, Trajectory], Trajectory]:
    """`rewrite(read, write)` of `algos.correction_model`: rows `x read separator write`.

    `write` is the completion; one document per row.

    Args:
      separator: as in `language_preference`.
    """
    check_range("[0, inf)", separator=separator)

    def rewrite(read: Trajectory, write: Trajectory) -> Trajectory:
        first, real = read.inputs, jnp.asarray(read.inputs.segments) > 0
        chex.assert_equal_shape([first.ids[..., 0], write.actions[..., 0]])
        mark = jnp.full_like(real[..., :1], separator, dtype=jnp.int32)
        ids, shown = (
            jnp.concatenate(parts, axis=-1)
            for parts in ((first.ids, mark), (real, jnp.ones_like(mark, bool)))
        )
        return language_trajectory(ids, shown, write.actions, write.mask, write.valid)

    return rewrite
