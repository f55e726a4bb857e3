"""Rows of documents by their lengths: every document once, no row too long, hardly a gap."""

import numpy as np
import pytest

from rlhf_jax.data.loader import batches
from rlhf_jax.data.packing import OPEN, pack_lengths


def test_every_document_is_in_one_row_that_holds_it():
    lengths = np.random.default_rng(0).integers(1, 90, 2000)
    packs = pack_lengths(lengths, 100, seed=3)
    rows = [packs[r] for r in range(len(packs))]
    assert sorted(np.concatenate(rows).tolist()) == list(range(2000))
    sizes = [int(lengths[row].sum()) for row in rows]
    assert max(sizes) <= 100
    assert min(map(len, rows)) >= 1
    assert packs.filled == sum(sizes) / (100 * len(rows))
    assert packs.filled > 0.95
    assert len(packs) >= OPEN / 2  # rows were closed on the way


def test_rows_by_hand():
    # A 3 opens a row with 2 left over, which takes a 2; a 4 fits beside neither of them.
    packs = pack_lengths(np.array([3, 2, 4]), 5, seed=0)
    assert sorted(sorted(packs[r].tolist()) for r in range(len(packs))) == [[0, 1], [2]]
    assert packs.filled == 9 / 10


def test_the_order_is_that_of_the_seed():
    lengths = np.full(50, 7)
    first, again, other = (pack_lengths(lengths, 20, seed=seed).order for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()


def test_packed_rows_are_batches_of_the_loader():
    packs = pack_lengths(np.full(12, 2), 6, seed=0)
    rows = batches(packs, batch_size=2, seed=0, batch_fn=lambda part: [x.tolist() for x in part])
    found = [number for step in range(2) for row in rows[step] for number in row]
    assert sorted(found) == list(range(12))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([], "there are no documents to pack"),
        ([2, 0], "document 1 has 0 tokens"),
        ([2, 9], "document 1 has 9 tokens; a row of 8 columns holds 1 to 8"),
    ],
)
def test_documents_that_no_row_holds_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        pack_lengths(np.array(lengths, int), 8, seed=0)
