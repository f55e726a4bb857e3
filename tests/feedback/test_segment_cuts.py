"""Segments cut from episodes: whole ones only, dense and drawn, with what their steps carry."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.feedback.segments import (
    cut_segments,
    cut_steps,
    draw_segments,
    every_segment,
    turn_segments,
)
from rlhf_jax.types import Trajectory

# Episodes of 6, 3 and 0 steps, and one with a hole.
MASK = jnp.array(
    [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1]], bool
)
TIMES = jnp.broadcast_to(jnp.arange(6.0), (4, 6)) + 10.0 * jnp.arange(4.0)[:, None]
# Observations say where they are from; actions are continuous; padding is junk.
EPISODES = Trajectory(
    jnp.where(MASK, TIMES, 1e6)[..., None], jnp.stack([TIMES, -TIMES], axis=-1), MASK
)
WHOLE = {(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (3, 3)}  # of length 3


@pytest.fixture
def no_type_checker():
    """Users have none."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_every_whole_segment_is_found_and_no_other():
    places = every_segment(MASK, length=3, stride=1)
    assert places.whole.shape == (4, 4)
    found = {
        (int(e), int(s))
        for e, s, w in zip(*(x.ravel() for x in jax.tree.map(np.asarray, places)), strict=True)
        if w
    }
    assert found == WHOLE


def test_a_stride_of_the_length_cuts_without_overlap():
    places = every_segment(MASK, length=3, stride=3)
    assert places.starts.tolist() == [[0, 3]] * 4
    assert places.whole.tolist() == [[True, True], [True, False], [False, False], [False, True]]
    odd = every_segment(MASK, length=2, stride=3)
    assert odd.starts.tolist() == [[0, 3]] * 4


def test_segments_carry_their_steps_and_count_only_if_whole():
    places = every_segment(MASK, length=3, stride=1)
    segments = cut_segments(EPISODES, places, length=3)
    assert segments.actions.shape == (4, 4, 3, 2)
    np.testing.assert_array_equal(segments.mask.all(-1), places.whole)
    np.testing.assert_array_equal(segments.mask.any(-1), places.whole)
    np.testing.assert_array_equal(segments.inputs[0, 2, :, 0], [2.0, 3.0, 4.0])
    np.testing.assert_array_equal(segments.actions[3, 3, :, 0], [33.0, 34.0, 35.0])
    np.testing.assert_array_equal(cut_steps(TIMES, places, length=3)[1, 0], [10.0, 11.0, 12.0])


@pytest.mark.parametrize("x64", [False, True])
def test_draws_are_uniform_over_the_whole_segments_of_all_episodes(x64):
    with jax.enable_x64(x64):
        places = draw_segments(jax.random.key(0), MASK, (3000, 2), length=3)
        assert places.whole.shape == (3000, 2)
        assert bool(places.whole.all())
        pairs = np.stack([np.ravel(places.episodes), np.ravel(places.starts)], axis=-1)
        cells, counts = np.unique(pairs, axis=0, return_counts=True)
        assert {tuple(cell) for cell in cells.tolist()} == WHOLE
        # 1000 of each expected; five standard deviations of a binomial.
        assert np.abs(counts - 1000).max() < 5 * np.sqrt(6000 / 6 * 5 / 6)


def test_the_order_of_episodes_does_not_matter_to_what_is_whole():
    order = jnp.array([2, 0, 3, 1])
    one, other = (every_segment(m, length=2, stride=1).whole for m in (MASK, MASK[order]))
    np.testing.assert_array_equal(one[order], other)


def test_without_a_whole_segment_nothing_counts():
    places = draw_segments(jax.random.key(0), MASK[1:3], (4,), length=5)
    assert not bool(places.whole.any())
    assert not bool(
        cut_segments(jax.tree.map(lambda x: x[1:3], EPISODES), places, length=5).mask.any()
    )


@pytest.mark.usefixtures("no_type_checker")
def test_what_is_wrong_is_named():
    with pytest.raises(ValueError, match="length must be at most the 6 steps, got 7"):
        every_segment(MASK, length=7, stride=1)
    with pytest.raises(ValueError, match=r"length must be in \[1, inf\)"):
        draw_segments(jax.random.key(0), MASK, (2,), length=0)
    with pytest.raises(ValueError, match=r"stride must be in \[1, inf\)"):
        every_segment(MASK, length=2, stride=0)
    with pytest.raises(TypeError, match="turn_ids must be integers"):
        turn_segments(EPISODES, MASK.astype(float), num_turns=1)
    with pytest.raises(TypeError, match="mask must be bool"):
        every_segment(MASK.astype(int), length=2, stride=1)


def test_each_turn_is_a_segment_and_the_others_stay_readable():
    turn_ids = jnp.array([[0, 0, -1, 1, 1, 2], [0, 1, 1, -1, -1, -1]])
    mask = turn_ids >= 0
    valid = jnp.array([6, 3])[:, None] > jnp.arange(6)
    dialogues = Trajectory(TIMES[:2], jnp.ones((2, 6), int), mask, valid)
    turns = turn_segments(dialogues, turn_ids, num_turns=3)
    counted = [[[0, 1], [3, 4], [5]], [[0], [1, 2], []]]
    assert [[list(np.flatnonzero(m)) for m in row] for row in turns.mask] == counted
    np.testing.assert_array_equal(turns.valid, np.repeat(valid[:, None], 3, axis=1))
    np.testing.assert_array_equal(turns.inputs[1, 2], TIMES[1])
    one = turn_segments(Trajectory(TIMES[0], turn_ids[0], mask[0]), turn_ids[0], num_turns=2)
    np.testing.assert_array_equal(one.mask, turns.mask[0, :2])
    np.testing.assert_array_equal(one.valid, np.stack([mask[0]] * 2))
