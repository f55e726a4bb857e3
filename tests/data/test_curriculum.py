"""Bins, stages and batches of a curriculum."""

import numpy as np
import pytest

from rlhf_jax.data.curriculum import (
    curriculum_batch,
    difficulty_bins,
    stage_of,
    stage_weights,
)
from rlhf_jax.recipes import CurriculumRows, curriculum_rows, text_task

HORIZONS = [3, 1, 2, 8, 1, 5, 2, 7, 1]


def test_bins_are_ordered_and_share_equal_difficulties():
    bins = difficulty_bins(HORIZONS, stages=3)
    assert [sorted(np.array(HORIZONS)[each]) for each in bins] == [[1, 1, 1], [2, 2, 3], [5, 7, 8]]
    assert sorted(np.concatenate(bins)) == list(range(9))
    assert [each.tolist() for each in difficulty_bins([4, 4, 4], stages=3)] == [[0, 1, 2]]
    assert [each.tolist() for each in difficulty_bins(HORIZONS, stages=1)] == [list(range(9))]


def test_stages_have_equal_shares_and_the_last_goes_on():
    assert [stage_of(i, steps=7, stages=3) for i in (0, 2, 3, 4, 5, 6, 7, 100)] == [
        *(0, 0, 1, 1, 2, 2, 2, 2)
    ]


def test_weights_by_hand():
    np.testing.assert_array_equal(stage_weights(3), np.eye(3))
    found = stage_weights(3, replay=0.2)
    np.testing.assert_allclose(found, [[1, 0, 0], [0.2, 0.8, 0], [0.1, 0.1, 0.8]])


def test_batches_are_of_their_stage_and_do_not_depend_on_the_order_of_reading():
    bins = difficulty_bins(HORIZONS, stages=3)
    options = {"steps": 30, "batch_size": 200, "seed": 3}
    for stage, step in enumerate((0, 15, 29)):
        alone = curriculum_batch(bins, step, replay=0.0, **options)
        assert set(alone) == set(bins[stage])
        mixed = curriculum_batch(bins, step, replay=0.3, **options)
        share = np.isin(mixed, bins[stage]).mean()
        assert share == pytest.approx(1.0 if stage == 0 else 0.7, abs=0.1)
        np.testing.assert_array_equal(mixed, curriculum_batch(bins, step, replay=0.3, **options))
    other = curriculum_batch(bins, 1, replay=0.0, **options)
    assert (other != curriculum_batch(bins, 0, replay=0.0, **options)).any()


def test_rows_of_a_task():
    task = text_task(["x"] * 12, lambda p, a: {"s": [0] * len(a)}, objective="s", heldout=3)
    rows = curriculum_rows(task, HORIZONS, steps=9, batch_size=4, seed=0, replay=0.0)
    assert isinstance(rows, CurriculumRows)
    assert [set(np.array(HORIZONS)[rows[i]]) <= kept for i, kept in SEEN.items()] == [True] * 4
    with pytest.raises(ValueError, match="difficulty must be one number for each of 9 training"):
        curriculum_rows(task, HORIZONS[1:], steps=9, batch_size=4, seed=0)


SEEN = {0: {1}, 3: {2, 3}, 6: {5, 7, 8}, 40: {5, 7, 8}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: difficulty_bins([1.0, np.nan], stages=2), "difficulty must be in"),
        (lambda: difficulty_bins([], stages=2), "items must be in"),
        (lambda: difficulty_bins([1], stages=0), "stages must be in"),
        (lambda: stage_of(-1, steps=3, stages=2), "step must be in"),
        (lambda: stage_weights(2, replay=1.5), "replay must be in"),
        (lambda: curriculum_batch([], 0, steps=1, batch_size=1, seed=0), "bins must be in"),
        (
            lambda: curriculum_batch([np.arange(2)], 0, steps=1, batch_size=0, seed=0),
            "batch_size must be in",
        ),
    ],
)
def test_what_is_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
