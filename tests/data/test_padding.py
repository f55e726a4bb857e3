"""Rectangles of tokens: what is kept, where it lies, and that nothing is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data.padding import pack_rows, pad_left, pad_right

TOKENS = st.lists(st.integers(0, 9), min_size=1, max_size=12)
DOCUMENTS = st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=12), max_size=20)


def test_pad_left_by_hand():
    ids, mask = pad_left([[5], [1, 2, 3, 4]], 3, pad_id=9)
    np.testing.assert_array_equal(ids, [[9, 9, 5], [2, 3, 4]])
    np.testing.assert_array_equal(mask, [[False, False, True], [True, True, True]])
    assert ids.dtype == np.int32
    assert mask.dtype == bool


def test_pad_right_keeps_the_start_and_loses_eos_when_cut():
    eos = 2
    ids, mask = pad_right([[5, eos], [5, 6, 7, eos]], 3)
    np.testing.assert_array_equal(ids, [[5, eos, 0], [5, 6, 7]])
    np.testing.assert_array_equal(mask, [[True, True, False], [True, True, True]])


@given(rows=st.lists(TOKENS, max_size=8), length=st.integers(1, 15))
def test_padding_keeps_the_right_end(rows, length):
    left, right = pad_left(rows, length), pad_right(rows, length)
    assert left.ids.shape == right.mask.shape == (len(rows), length)
    for b, row in enumerate(rows):
        assert left.ids[b][left.mask[b]].tolist() == row[-length:]
        assert right.ids[b][right.mask[b]].tolist() == row[:length]
        assert np.all(np.diff(left.mask[b].astype(int)) >= 0)
        assert np.all(np.diff(right.mask[b].astype(int)) <= 0)


def test_pad_errors_name_the_row():
    with pytest.raises(ValueError, match="row 1: zero supervised tokens"):
        pad_right([[1], []], 4)
    with pytest.raises(ValueError, match="row 0: empty prompt"):
        pad_left([[]], 4)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        pad_left([[1]], 0)


def test_pack_first_fit_by_hand():
    packed = pack_rows([[1, 2, 3], [4, 5], [6, 7], [8, 9]], 5)
    np.testing.assert_array_equal(packed.ids, [[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]])
    np.testing.assert_array_equal(packed.positions, [[0, 1, 2, 0, 1], [0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(packed.segments, [[1, 1, 1, 2, 2], [1, 1, 2, 2, 0]])
    np.testing.assert_array_equal(
        packed.mask, [[False, True, True, False, True], [False, True, False, True, False]]
    )


def test_pack_goes_back_to_an_earlier_row_with_room():
    packed = pack_rows([[1] * 4, [2] * 5, [3] * 2], 6)
    np.testing.assert_array_equal(packed.ids, [[1, 1, 1, 1, 3, 3], [2, 2, 2, 2, 2, 0]])


@given(rows=DOCUMENTS, length=st.integers(12, 30), data=st.data())
def test_pack_round_trip(rows, length, data):
    counted = [
        [False, True, *data.draw(st.lists(st.booleans(), min_size=n - 2, max_size=n - 2))]
        for n in map(len, rows)
    ]
    packed = pack_rows(rows, length, counted=counted)
    found = []
    for r in range(len(packed.ids)):
        assert packed.segments[r, 0] == 1  # no empty row
        for segment in range(1, packed.segments[r].max() + 1):
            at = packed.segments[r] == segment
            np.testing.assert_array_equal(packed.positions[r][at], np.arange(at.sum()))
            found.append((packed.ids[r][at].tolist(), packed.mask[r][at].tolist()))
    expected = list(zip(rows, counted, strict=True))
    assert sorted(found) == sorted(expected)
    padding = packed.segments == 0
    assert not packed.ids[padding].any()
    assert not packed.mask[padding].any()
    assert not packed.positions[padding].any()


@pytest.mark.parametrize(
    ("rows", "counted", "message"),
    [
        ([[1, 2], [1] * 9], None, "row 1: 9 tokens do not fit in 8"),
        ([[1, 2], [1]], None, "row 1: zero supervised tokens"),
        ([[1, 2], []], None, "row 1: zero supervised tokens"),
        ([[1, 2, 3]], [[True, False, False]], "row 0: zero supervised tokens"),
        ([[1, 2], [1, 2]], [[True, True], [True]], "row 1: 2 tokens but 1 counted flags"),
        ([[1, 2], [1, 2]], [[True, True]], "counted has 1 rows for 2"),
    ],
)
def test_pack_errors(rows, counted, message):
    with pytest.raises(ValueError, match=message):
        pack_rows(rows, 8, counted=counted)


def test_pack_many_rows_quickly():
    sizes = np.random.default_rng(0).integers(2, 64, 5000)
    packed = pack_rows([[1] * n for n in sizes], 64)
    assert (packed.segments > 0).sum() == sizes.sum()
    assert (packed.segments > 0).mean() > 0.9
