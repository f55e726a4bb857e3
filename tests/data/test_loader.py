"""The position of a reader is one number."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.data.buckets import bucket_batches
from rlhf_jax.data.loader import Share, batches, steps_in


def epoch_rows(dataset, epoch, rows, batch_size):
    """Row numbers of one epoch, read through whole batches."""
    first, last = epoch * rows // batch_size, ((epoch + 1) * rows - 1) // batch_size
    flat = np.concatenate([dataset[i] for i in range(first, last + 1)])
    start = epoch * rows - first * batch_size
    return flat[start : start + rows]


def test_batch_seven_alone_is_batch_seven_in_sequence():
    sequence = iter(batches(20, batch_size=6, seed=1))
    read = [next(sequence) for _ in range(9)]
    alone = batches(20, batch_size=6, seed=1)
    np.testing.assert_array_equal(alone[7], read[7])
    np.testing.assert_array_equal(alone[2], read[2])  # backwards too
    assert alone[7].dtype == np.int64
    assert alone[7].shape == (6,)


@pytest.mark.long
@settings(max_examples=15, deadline=None, derandomize=True)
@given(rows=st.integers(1, 30), batch_size=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_each_row_once_per_epoch(rows, batch_size, seed):
    dataset = batches(rows, batch_size=batch_size, seed=seed)
    for epoch in range(3):
        assert sorted(epoch_rows(dataset, epoch, rows, batch_size)) == list(range(rows))


def test_epochs_and_seeds_differ():
    first = batches(50, batch_size=10, seed=0)
    epochs = [tuple(epoch_rows(first, e, 50, 10)) for e in range(4)]
    assert len(set(epochs)) == 4
    neighbour = batches(50, batch_size=10, seed=1)
    # Seeds do not overlap with a shift by an epoch.
    assert tuple(epoch_rows(neighbour, 0, 50, 10)) not in epochs


@pytest.mark.long
def test_another_process_reads_the_same():
    code = (
        "from rlhf_jax.data.loader import batches; "
        "print(batches(100, batch_size=8, seed=5)[123].tolist())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(batches(100, batch_size=8, seed=5)[123].tolist())


def test_records_are_stacked_or_given_to_batch_fn():
    records = [{"ids": np.full(3, i), "text": f"row {i}"} for i in range(4)]
    stacked = batches([{"ids": r["ids"]} for r in records], batch_size=4, seed=0)[0]
    assert stacked["ids"].shape == (4, 3)
    texts = batches(records, batch_size=4, seed=0, batch_fn=lambda rows: [r["text"] for r in rows])[
        5
    ]
    assert sorted(texts) == ["row 0", "row 1", "row 2", "row 3"]


def test_steps():
    assert steps_in(1, rows=10, batch_size=4) == 3
    assert steps_in(2, rows=10, batch_size=4) == 5
    assert steps_in(0.1, rows=30, batch_size=3) == 1
    assert steps_in(0.001, rows=100, batch_size=8) == 1  # a tenth of a row
    assert steps_in(0.25, rows=1, batch_size=4) == 1
    assert steps_in(0.25, rows=10, batch_size=2) == 2  # of 2.5 rows
    for epochs in (0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="epochs must be finite and > 0"):
            steps_in(epochs, rows=10, batch_size=4)


@pytest.mark.parametrize(
    ("rows", "batch_size", "seed", "message"),
    [
        (0, 4, 0, "1 to 2.32 - 1 rows, got 0"),
        (4, 0, 0, "batch_size must be at least 1"),
        (4, 2, -1, "seed must be in"),
        (4, 2, 2**32, "seed must be in"),
    ],
)
def test_loader_errors(rows, batch_size, seed, message):
    with pytest.raises(ValueError, match=message):
        batches(rows, batch_size=batch_size, seed=seed)


@pytest.mark.parametrize("hosts", [1, 2, 3, 4])
def test_hosts_read_disjoint_parts_of_the_batches_of_one(hosts):
    """The parts side by side are the batch, in its order: the number of hosts changes nothing."""
    records = [f"row {i}" for i in range(30)]
    options = {"batch_size": 12, "seed": 4, "batch_fn": list}
    alone = batches(records, **options)
    parts = [batches(records, **options, share=Share(h, hosts)) for h in range(hosts)]
    for step in (0, 1, 2, 7):
        found = [part[step] for part in parts]
        assert {len(rows) for rows in found} == {12 // hosts}
        assert [row for rows in found for row in rows] == alone[step]
    numbers = [batches(30, batch_size=12, seed=4, share=Share(h, hosts))[1] for h in range(hosts)]
    assert [f"row {i}" for i in np.concatenate(numbers)] == alone[1]


def test_hosts_read_parts_of_the_batch_of_a_bucket():
    assigned, options = np.arange(10) % 2, {"batch_size": 4, "seed": 0, "batch_fn": lambda x: x}
    alone = bucket_batches(assigned, **options)
    parts = [bucket_batches(assigned, **options, share=Share(h, 2)) for h in range(2)]
    for step in range(alone.steps_per_epoch):
        first, second = (part[step] for part in parts)
        assert first.bucket == second.bucket == alone[step].bucket
        np.testing.assert_array_equal([*first.rows, *second.rows], alone[step].rows)
        np.testing.assert_array_equal([*first.kept, *second.kept], alone[step].kept)


@pytest.mark.parametrize("share", [Share(0, 5), Share(3, 3), Share(-1, 2)])
def test_hosts_without_an_equal_part_are_refused(share):
    with pytest.raises(ValueError, match="has no equal part of a batch of 12 rows"):
        batches(30, batch_size=12, seed=0, share=share)
