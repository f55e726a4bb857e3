"""Which of several judgements is learned: the right ones, the longest, with counts."""

import jaxtyping
import numpy as np
import pytest

from rlhf_jax.data.traces import select_traces

NAN = np.nan
VERDICTS = [[1.0, -1.0, 1.0, NAN], [2.0, -2.0, NAN, 3.0], [-1.0, -1.0, -1.0, 1.0]]
LENGTHS = [[5, 9, 7, 20], [4, 3, 9, 8], [6, 6, 2, 9]]
LABELS = [1.0, -1.0, -1.0]


def test_the_longest_right_trace_of_each_pair():
    found = select_traces(VERDICTS, LENGTHS, LABELS)
    # The second pair has the right side once, and never the right verdict.
    assert found.chosen.tolist() == [[0, 2], [2, 0]]
    assert found.counts == {"kept": 2, "pairs": 3, "without": 1, "unread": 2, "wrong": 5}
    assert found.counts["kept"] + found.without == found.pairs


def test_the_shortest_and_a_random_one():
    assert select_traces(VERDICTS, LENGTHS, LABELS, keep="shortest").chosen.tolist() == [
        [0, 0],
        [2, 2],
    ]
    picks = [
        select_traces(VERDICTS, LENGTHS, LABELS, keep="random", seed=s).chosen for s in range(40)
    ]
    assert {int(pick[0, 1]) for pick in picks} == {0, 2}
    assert {int(pick[1, 1]) for pick in picks} == {0, 1, 2}
    again = select_traces(VERDICTS, LENGTHS, LABELS, keep="random", seed=3).chosen
    np.testing.assert_array_equal(again, picks[3])


def test_no_pair_has_a_right_trace():
    found = select_traces([[1.0], [NAN]], [[3], [3]], [-1.0, 1.0])
    assert found.chosen.shape == (0, 2)
    assert found.counts == {"kept": 0, "pairs": 2, "without": 2, "unread": 1, "wrong": 1}


@pytest.mark.parametrize(
    ("labels", "lengths", "message"),
    [
        ([0.0], [[1.0]], "absolute_labels must be in"),
        ([NAN], [[1.0]], "absolute_labels must be in"),
        ([1.0], [[0.0]], "lengths must be in"),
        ([1.0, 1.0], [[1.0]], "must be .N, K. and labels .N., got"),
        ([1.0], [[1.0, 2.0]], "must be .N, K. and labels .N., got"),
    ],
)
def test_bad_arrays_are_named(labels, lengths, message):
    with pytest.raises(ValueError, match=message):
        select_traces([[1.0]], lengths, labels)


def test_an_unknown_choice_is_named():
    with pytest.raises((ValueError, jaxtyping.TypeCheckError)):
        select_traces([[1.0]], [[1]], [1.0], keep="best")
