"""Buckets of rows: every row once per epoch, one bucket a batch, the same in any process."""

import numpy as np
import pytest

from rlhf_jax.data.buckets import (
    BucketBatches,
    assign_buckets,
    bucket_batches,
    choose_shapes,
    padding_share,
)

ASSIGNED = np.array([0, 1, 0, 2, 0, 1, 0, 0])  # 5, 2 and 1 rows


def loader(seed=3) -> BucketBatches:
    return bucket_batches(ASSIGNED, batch_size=2, seed=seed, batch_fn=lambda batch: batch)


def epoch_rows(batches, epoch):
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    return [int(row) for i in steps for row in batches[i].rows[batches[i].kept]]


def test_every_row_comes_once_per_epoch():
    batches = loader()
    assert batches.steps_per_epoch == 3 + 1 + 1
    first, second = epoch_rows(batches, 0), epoch_rows(batches, 1)
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second


def test_a_batch_has_rows_of_one_bucket_and_is_filled_up_with_them():
    for i in range(5):
        bucket, rows, kept = loader()[i]
        assert rows.shape == kept.shape == (2,)
        assert set(ASSIGNED[rows]) == {bucket}
        assert kept[0]
    assert sum(not batch.kept[1] for batch in map(loader().__getitem__, range(5))) == 2


def test_batches_depend_on_the_seed_and_the_step_only():
    forward, backward = loader(), loader()
    steps = range(12)
    there = {i: forward[i].rows.tolist() for i in steps}
    assert there == {i: backward[i].rows.tolist() for i in reversed(steps)}
    assert there != {i: loader(4)[i].rows.tolist() for i in steps}


def test_a_row_goes_to_the_first_bucket_that_holds_all_of_it():
    lengths = np.array([[1, 1], [2, 1], [1, 3], [4, 9]])
    assert assign_buckets(lengths, [(1, 2), (2, 2), (3, 3)]).tolist() == [0, 1, 2, 2]


def test_shapes_hold_their_group_and_all_before_it():
    # Sums 2, 4, 5, 7: groups {(1, 1), (3, 1)} and {(1, 4), (2, 5)}; the second holds (3, 1) too.
    lengths = np.array([[3, 1], [1, 4], [1, 1], [2, 5]])
    assert choose_shapes(lengths, 2) == [(3, 1), (3, 5)]
    assert choose_shapes(lengths, 9)[-1] == (3, 5)
    assert choose_shapes(np.array([[2, 2]] * 4), 2) == [(2, 2)]


def test_padding_share_by_hand():
    # 1 + 2 and 4 of 4 kept tokens (the fifth is cut), in 2 + 2 and 4 columns: 1 of 8 is empty.
    lengths, shapes = np.array([[1, 2], [5, 0]]), np.array([[2, 2], [4, 0]])
    assert padding_share(lengths, shapes) == 1 / 8


@pytest.mark.parametrize(
    "change", [{"assigned": np.array([], int)}, {"batch_size": 0}, {"seed": -1}]
)
def test_nothing_to_batch_is_refused(change):
    options = {"assigned": ASSIGNED, "batch_size": 2, "seed": 0, "batch_fn": str} | change
    with pytest.raises(ValueError, match="at least one row, batch_size >= 1 and seed >= 0"):
        bucket_batches(options.pop("assigned"), **options)


def test_no_bucket_is_refused():
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        choose_shapes(np.ones((1, 2), int), 0)
