"""Many updates of a preference game in one loop."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rlhf_jax.algos.games.many import turns
from rlhf_jax.algos.games.opponents import GameState
from rlhf_jax.algos.games.oracles import Oracle
from rlhf_jax.types import Metrics


def log_spaced_times(steps: int, count: int) -> tuple[int, ...]:
    """About `count` distinct integers from 1 to `steps`, evenly spaced on a log scale."""
    return tuple(sorted({int(t) for t in np.rint(np.geomspace(1, steps, count))}))


def run_updates(
    update: Callable[[GameState, Oracle, jax.Array], tuple[GameState, Metrics]],
    state: GameState,
    oracle: Oracle,
    key: jax.Array,
    *,
    times: Sequence[int],
    record: Callable[[GameState, Metrics], Any],
) -> tuple[GameState, Any]:
    """Many updates in one loop; only the records are kept.

    Update t has the key `fold_in(key, t)`, so the run does not depend on the times of the records,
    and it can be stopped and resumed from its state.

    Args:
      update: the update of a `Method`.
      times: record after these numbers of updates, counted from this state: ascending, >= 1, e.g.
        `range(k, steps + 1, k)` or `log_spaced_times`. The run ends at the last one.
      record: `(state, metrics of the last update) -> pytree of arrays`.
    Returns:
      The last state, and the records with a leading axis [len(times)].
    Raises:
      ValueError: times is empty, not ascending, or starts below 1.
    """
    lengths = np.diff(np.asarray(times, np.int64), prepend=0)
    if lengths.size == 0 or lengths.min() < 1:
        raise ValueError(f"times must be ascending integers >= 1, got {tuple(times)}")

    def advance(state: GameState) -> tuple[GameState, Metrics]:
        return update(state, oracle, jax.random.fold_in(key, state.step))

    turn, back = turns(state.logps)

    def step(_: Array | int, inside: GameState) -> GameState:  # an int where nothing is compiled
        return turn(advance(back(inside))[0])

    def segment(state: GameState, length: Array) -> tuple[GameState, Any]:
        inside = jax.lax.fori_loop(0, length - 1, step, turn(state))
        state, metrics = advance(back(inside))
        return state, record(state, metrics)

    return jax.lax.scan(segment, state, jnp.asarray(lengths, jnp.int32))
