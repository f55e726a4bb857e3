"""The ring of slots: what alignment, joining and choosing rows do to it."""

import jax.numpy as jnp
import numpy as np

from rlhf_jax.models.cache import (
    KVCache,
    choose_rows,
    filled_cache,
    join_rows,
    resize_cache,
    take_rows,
)


def numbered(first, positions, slot=0):
    """A cache of one layer with G = h = 1: keys and values say the number of their token."""
    numbers = first + jnp.arange(positions.size, dtype=jnp.float32).reshape(positions.shape)
    layer = (numbers[:, None, None], numbers[:, None, :, None])
    return KVCache((layer,), positions, jnp.asarray(slot))


def read(cache):
    """Numbers and positions, slot by slot."""
    ((keys, values),) = cache.layers
    np.testing.assert_array_equal(keys[:, 0, 0], values[:, 0, :, 0])
    return np.asarray(keys[:, 0, 0]).tolist(), np.asarray(cache.positions).tolist()


def test_a_prompt_is_aligned_at_its_end_in_any_number_of_slots():
    keys = jnp.arange(12.0).reshape(2, 1, 3, 2, 1)  # N B P G h
    positions = jnp.array([[-1, 0, 1]])
    wide = filled_cache(keys, -keys, positions, 5)
    assert wide.positions.tolist() == [[-1, -1, -1, 0, 1]]
    # Layer 1, tokens 0 to 2: keys 6, 8, 10 of the first head and 7, 9, 11 of the second.
    assert wide.layers[1][0][0, :, 0].tolist() == [[0, 0, 6, 8, 10], [0, 0, 7, 9, 11]]
    assert wide.layers[1][1][0, :, :, 0].tolist() == [[0, 0, -6, -8, -10], [0, 0, -7, -9, -11]]
    assert filled_cache(keys, -keys, positions, 2).positions.tolist() == [[0, 1]]


def test_resizing_puts_the_newest_token_last():
    # The next token would overwrite slot 1, so slot 0 holds the newest: 1, 2, 0 in order of age.
    held = numbered(0, jnp.array([[5, 3, 4]]), slot=1)
    assert read(resize_cache(held, 3)) == ([[1, 2, 0]], [[3, 4, 5]])
    assert read(resize_cache(held, 2)) == ([[2, 0]], [[4, 5]])
    assert read(resize_cache(held, 4)) == ([[0, 1, 2, 0]], [[-1, 3, 4, 5]])
    assert int(resize_cache(held, 4).slot) == 0


def test_rows_are_taken_joined_and_chosen():
    first = numbered(0, jnp.array([[0, 1], [7, 8]]))
    second = numbered(10, jnp.array([[2, 3], [4, 5]]))
    assert read(take_rows(first, jnp.array([1, 1]))) == ([[2, 3]] * 2, [[7, 8]] * 2)
    both = join_rows([first, second])
    assert read(both) == ([[0, 1], [2, 3], [10, 11], [12, 13]], [[0, 1], [7, 8], [2, 3], [4, 5]])
    mixed = choose_rows(jnp.array([False, True]), first, second)
    assert read(mixed) == ([[10, 11], [2, 3]], [[2, 3], [7, 8]])
