"""Which member learns from which annotator's pairs."""

import numpy as np
import pytest

from rlhf_jax.data.annotators import annotator_members


def pair(name, **more):
    return {"prompt": "?", "chosen": "a", "rejected": "b", "annotator": name} | more


def test_each_member_has_the_pairs_of_one_annotator():
    labelled = {"prompt": "?", "chosen": "a", "rejected": "b", "judgement": {"annotator": "ann"}}
    found = annotator_members([pair("bo"), labelled, pair("bo"), pair("cy")])
    assert found.names == ("ann", "bo", "cy")
    np.testing.assert_array_equal(found.weights, [[0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]])
    assert found.weights.dtype == np.float32
    np.testing.assert_array_equal(found.weights.sum(0), 1.0)  # nothing lost


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([pair("bo")] * 3, "needs two annotators, but all 3 pairs are by 'bo': .* different seeds"),
        ([], "needs two annotators, but there are no pairs"),
        ([pair("bo"), {"prompt": "?"}], 'pair 1 has no "annotator"'),
        ([pair(""), pair("bo")], 'pair 0 has no "annotator"'),
        ([pair(None), pair("bo")], 'pair 0 has no "annotator"'),
    ],
)
def test_data_without_two_annotators_is_refused(records, message):
    with pytest.raises(ValueError, match=message):
        annotator_members(records)


def test_annotators_with_too_few_pairs_are_named():
    with pytest.raises(ValueError, match=r"need 2 pairs or more, too few have 'ann' \(1\)$"):
        annotator_members([pair("bo"), pair("ann"), pair("bo")], least=2)
