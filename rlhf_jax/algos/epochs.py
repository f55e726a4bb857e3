"""Several passes over one batch of answers, in minibatches, for any update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlhf_jax.algos.gradient import Diagnostics
from rlhf_jax.checks import check_range
from rlhf_jax.types import PyTree, TrainState, Update


def make_epochs(
    update: Update[TrainState, PyTree],
    *,
    epochs: int,
    minibatches: int,
) -> Callable[[TrainState, PyTree, jax.Array], tuple[TrainState, Diagnostics]]:
    """Several passes over one batch, in minibatches, with a new order in each pass.

    Args:
      update: of any algorithm.
      epochs: number of passes, >= 1.
      minibatches: number of equal parts per pass, >= 1.
    Returns:
      Pure `epochs(state, batch, key) -> (state, metrics)`; the metrics are those of the last
      minibatch. Every array of the batch has the leading axis [B]; a ValueError says if
      `minibatches` does not divide B.
    """
    check_range("[1, inf)", epochs=epochs, minibatches=minibatches)

    def run(state: TrainState, batch: PyTree, key: jax.Array) -> tuple[TrainState, Diagnostics]:
        rows = jax.tree.leaves(batch)[0].shape[0]
        if rows % minibatches:
            raise ValueError(f"{rows} rows do not divide into {minibatches} minibatches")
        keys = jax.random.split(key, epochs)
        order = jnp.concatenate([jax.random.permutation(k, rows) for k in keys])

        def one(state, places):
            return update(state, jax.tree.map(lambda x: x[places], batch))

        state, metrics = jax.lax.scan(one, state, order.reshape(-1, rows // minibatches))
        return state, jax.tree.map(lambda x: x[-1], metrics)

    return run
