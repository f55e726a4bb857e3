"""Keys and values of the tokens so far, in a ring of slots.

All rows write the same slot, which is one contiguous copy. They still need not begin together: a
slot knows the position of its token in each row, and nothing depends on the order of the slots. A
cache is aligned if the next slot is slot 0, so that the newest token is in the last one; aligned
caches of any length can be joined. Arrays of the wrong shape raise at trace time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

KeysValues = tuple[Float[Array, "B G h S"], Float[Array, "B G S h"]]  # one layer's cache


class KVCache(NamedTuple):
    """The cache of B rows.

    layers: keys [B, G, h, S] and values [B, G, S, h] of each layer.
    positions: [B, S] int32, of the tokens in the slots; -1 in empty slots.
    slot: int32 scalar in [0, S), the slot of the next token. It overwrites the oldest one.
    """

    layers: tuple[KeysValues, ...]
    positions: Int[Array, "B S"]
    slot: Int[Array, ""]


def filled_cache(
    keys: Float[Array, "N B P G h"],
    values: Float[Array, "N B P G h"],
    positions: Int[Array, "B P"],
    slots: int,
) -> KVCache:
    """An aligned cache of the last tokens of N layers; positions are -1 on padding."""
    layers = tuple(
        (
            _fitted(jnp.transpose(key, (0, 2, 3, 1)), 3, slots),
            _fitted(jnp.transpose(value, (0, 2, 1, 3)), 2, slots),
        )
        for key, value in zip(keys, values, strict=True)
    )
    return KVCache(layers, _fitted(positions, 1, slots, -1), jnp.asarray(0, jnp.int32))


def resize_cache(cache: KVCache, slots: int) -> KVCache:
    """Aligned, with this number of slots; if there are fewer than before, the oldest are left out.

    With as many as before this costs a copy.
    """

    def turned(x: Array, axis: int, empty: int = 0) -> Array:
        return _fitted(jnp.roll(x, -cache.slot, axis), axis, slots, empty)

    layers = tuple((turned(keys, 3), turned(values, 2)) for keys, values in cache.layers)
    return KVCache(layers, turned(cache.positions, 1, -1), jnp.zeros_like(cache.slot))


def take_rows(cache: KVCache, rows: Int[Array, "n"]) -> KVCache:
    """These rows, in this order."""
    layers, positions = jax.tree.map(lambda x: x[rows], (cache.layers, cache.positions))
    return KVCache(layers, positions, cache.slot)


def join_rows(caches: Sequence[KVCache]) -> KVCache:
    """The rows of several caches, aligned and with the same number of slots."""
    layers, positions = jax.tree.map(
        lambda *x: jnp.concatenate(x), *((cache.layers, cache.positions) for cache in caches)
    )
    return KVCache(layers, positions, caches[0].slot)


def choose_rows(first: Bool[Array, "B"], a: KVCache, b: KVCache) -> KVCache:
    """Rows of `a` where `first` is True, of `b` elsewhere; both aligned."""

    def pick(x: Array, y: Array) -> Array:
        return jnp.where(first.reshape(-1, *(1,) * (x.ndim - 1)), x, y)

    layers, positions = jax.tree.map(pick, (a.layers, a.positions), (b.layers, b.positions))
    return KVCache(layers, positions, b.slot)


def recent(
    seen: Int[Array, "B S"], positions: Int[Array, "B"], window: int | None
) -> Bool[Array, "B S"]:
    """The slots that a token at this position of its row attends to: the last `window` tokens."""
    if window is None:
        return seen >= 0
    return (seen >= 0) & (positions[:, None] - seen < window)


def _fitted(x: Array, axis: int, slots: int, empty: int = 0) -> Array:
    """The last `slots` of the slots, or more, with empty ones in front."""
    short = slots - x.shape[axis]
    if short <= 0:
        return jax.lax.slice_in_dim(x, -short, x.shape[axis], axis=axis)
    widths = [(short if i == axis else 0, 0) for i in range(x.ndim)]
    return jnp.pad(x, widths, constant_values=empty)
