"""A replay: what is kept, what is overwritten, what is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.control.replay import add_rows, draw_rows, init_replay, replay_size

ROW = {"x": jnp.zeros(2), "y": jnp.zeros((), jnp.int32)}


def rows(start, count):
    """Rows numbered from `start`, which is above 0: an empty row is 0."""
    y = jnp.arange(start, start + count, dtype=jnp.int32)
    return {"x": jnp.stack([y, 2 * y], axis=-1).astype(float), "y": y}


def filled_with(count, size=6, block=2):
    replay = init_replay(ROW, size=size)
    for start in range(0, count, block):
        replay = add_rows(replay, rows(1 + start, block))
    return replay


def test_rows_are_added_in_turn_and_the_oldest_give_way():
    assert filled_with(4).rows["y"].tolist() == [1, 2, 3, 4, 0, 0]
    replay = filled_with(8)
    assert replay.rows["y"].tolist() == [7, 8, 3, 4, 5, 6]
    np.testing.assert_array_equal(replay.rows["x"][:, 1], 2.0 * replay.rows["y"])
    assert int(replay.added) == 8
    assert replay_size(replay) == 6


@pytest.mark.parametrize(
    ("count", "kept"), [(2, {1, 2}), (4, {1, 2, 3, 4}), (8, {3, 4, 5, 6, 7, 8})]
)
def test_draws_come_from_the_rows_that_were_added(count, kept):
    drawn = draw_rows(jax.random.key(0), filled_with(count), batch=300)
    assert set(drawn["y"].tolist()) == kept
    np.testing.assert_array_equal(drawn["x"][:, 1], 2.0 * drawn["y"])


def test_a_row_of_shapes_is_a_row():
    replay = init_replay(jax.eval_shape(lambda: ROW), size=3)
    assert replay.rows["x"].shape == (3, 2)
    assert replay.rows["y"].dtype == jnp.int32


def test_blocks_that_do_not_fit_and_sizes_of_nothing_are_named():
    with pytest.raises(ValueError, match="6 rows of a replay do not divide into blocks of 4"):
        add_rows(init_replay(ROW, size=6), rows(0, 4))
    with pytest.raises(ValueError, match=r"size must be in \[1, inf\)"):
        init_replay(ROW, size=0)
    with pytest.raises(ValueError, match=r"batch must be in \[1, inf\)"):
        draw_rows(jax.random.key(0), filled_with(2), batch=0)
