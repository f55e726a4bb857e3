"""Segments cut from episodes: what people compare where an episode is too long to watch.

    places = every_segment(episodes.trajectory.mask, length=32, stride=16)     # dense: [B, n]
    places = draw_segments(key, episodes.trajectory.mask, (500, 2), length=32) # sparse: 500 pairs
    segments = cut_segments(episodes.trajectory, places, length=32)
    returns = cut_steps(episodes.rewards, places, length=32).sum(-1)

Episodes have leading axes [B]. A segment is whole: `length` neighbouring steps that all count. A
place without one has `whole` False, and its segment's mask is False everywhere.
"""

from dataclasses import replace
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int, Key

from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.types import PyTree, Trajectory


class SegmentPlaces(NamedTuple):
    """Where segments lie: episodes and first steps [*N] int; whole [*N] bool."""

    episodes: Int[Array, "*N"]
    starts: Int[Array, "*N"]
    whole: Bool[Array, "*N"]


def every_segment(mask: Bool[Array, "B T"], *, length: int, stride: int) -> SegmentPlaces:
    """All segments that start at a multiple of `stride`: places [B, (T - length) // stride + 1].

    Args:
      mask: [B, T] True where the step counts.
      length: steps of a segment, from 1 to T.
      stride: >= 1; `length` for segments that do not overlap.
    Raises:
      ValueError: a length above T.
    """
    check_range("[1, inf)", stride=stride)
    whole = _whole_from(mask, length)[:, ::stride]
    episodes, starts = jnp.indices(whole.shape)
    return SegmentPlaces(episodes, stride * starts, whole)


def draw_segments(
    key: Key[Array, ""], mask: Bool[Array, "B T"], shape: tuple[int, ...], *, length: int
) -> SegmentPlaces:
    """Segments drawn uniformly with replacement from all whole ones: places [*shape].

    An episode with more of them is drawn more often, one without any never. If no episode has one,
    `whole` is False.

    Args:
      mask: [B, T] True where the step counts.
      shape: e.g. (N, 2) for N pairs.
      length: steps of a segment, from 1 to T.
    Raises:
      ValueError: a length above T.
    """
    whole = _whole_from(mask, length)
    # The n-th whole one for a uniform n: a categorical draw would make noise for every place.
    counts = jnp.cumsum(whole.reshape(-1), dtype=jnp.int32)
    number = jax.random.randint(key, shape, 0, jnp.maximum(counts[-1], 1))
    drawn = jnp.minimum(jnp.searchsorted(counts, number, side="right"), counts.size - 1)
    episodes, starts = jnp.unravel_index(drawn, whole.shape)
    return SegmentPlaces(episodes, starts, whole[episodes, starts])


def cut_segments(episodes: Trajectory, places: SegmentPlaces, *, length: int) -> Trajectory:
    """The segments as trajectories [*N, length]; nothing counts in one that is not whole.

    Args:
      episodes: leading axes [B]; all arrays of the inputs have an entry per step [B, T, ...].
      length: as for the places.
    """
    cut = cut_steps(episodes, places, length=length)
    return replace(cut, mask=cut.mask & places.whole[..., None])


def cut_steps(steps: PyTree, places: SegmentPlaces, *, length: int) -> PyTree:
    """[*N, length, ...] of arrays [B, T, ...], such as rewards or values of the same episodes."""
    check_range("[1, inf)", length=length)
    episodes = places.episodes[..., None]
    times = places.starts[..., None] + jnp.arange(length)
    return jax.tree.map(lambda x: jnp.asarray(x)[episodes, times], steps)


def turn_segments(
    trajectory: Trajectory, turn_ids: Int[Array, "*B T"], *, num_turns: int
) -> Trajectory:
    """Each turn of a dialogue as a segment, with leading axes [*B, N]: only its steps count.

    All turns stay readable, so the policy is given what came before. A turn that was not taken has
    no counted step.

    Args:
      trajectory: leading axes [*B], of language or any other steps.
      turn_ids: [*B, T] the turn of each counted step, as of `sampling.turns`.
      num_turns: N >= 1.
    """
    check_ids(turn_ids=turn_ids)
    check_range("[1, inf)", num_turns=num_turns)
    mask, lead = trajectory.mask, trajectory.mask.ndim - 1
    chex.assert_equal_shape([turn_ids, mask])

    def repeated(x: ArrayLike) -> Array:
        x = jnp.expand_dims(x, lead)
        return jnp.broadcast_to(x, (*x.shape[:lead], num_turns, *x.shape[lead + 1 :]))

    valid = mask if trajectory.valid is None else trajectory.valid
    every = jax.tree.map(repeated, replace(trajectory, valid=valid))
    own = repeated(turn_ids) == jnp.arange(num_turns)[:, None]
    return replace(every, mask=every.mask & own)


def _whole_from(mask: Bool[Array, "B T"], length: int) -> Bool[Array, "B n"]:
    """Whether each of the T - length + 1 starts has `length` counted steps."""
    check_mask(mask=mask)
    check_range("[1, inf)", length=length)
    if length > mask.shape[-1]:
        raise ValueError(f"length must be at most the {mask.shape[-1]} steps, got {length}")
    # Counted steps before each place: `length` more of them after `length` places are whole.
    before = jnp.cumsum(jnp.pad(jnp.asarray(mask), ((0, 0), (1, 0))), axis=-1, dtype=jnp.int32)
    return before[:, length:] - before[:, :-length] == length
