"""Rows that are too long: refused, dropped or cut on one side, and counted."""

import doctest

import pytest

from rlhf_jax.data import lengths
from rlhf_jax.data.lengths import FittedRows, check_policy, fit_lengths

ROWS = [[1, 2], [3, 4, 5], [6], [7, 8, 9, 10]]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("drop", FittedRows([[1, 2], [6]], [0, 2], dropped=2, truncated=0)),
        ("truncate_left", FittedRows([[1, 2], [4, 5], [6], [9, 10]], [0, 1, 2, 3], 0, 2)),
        ("truncate_right", FittedRows([[1, 2], [3, 4], [6], [7, 8]], [0, 1, 2, 3], 0, 2)),
    ],
)
def test_a_policy_is_carried_out_and_counted(policy, expected):
    assert fit_lengths(ROWS, 2, policy) == expected


def test_an_error_names_the_row_and_its_length():
    with pytest.raises(ValueError, match="row 1: 3 tokens, at most 2 fit; shorten it"):
        fit_lengths(ROWS, 2, "error")
    assert fit_lengths(ROWS, 4, "error").rows == ROWS


def test_there_is_no_other_policy():
    check_policy("drop")
    with pytest.raises(ValueError, match=r"one of error, drop, .*, got 'truncate'"):
        fit_lengths(ROWS, 2, "truncate")
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        fit_lengths(ROWS, 0, "drop")


def test_the_example_of_the_module_runs():
    assert doctest.testmod(lengths) == doctest.TestResults(failed=0, attempted=1)
