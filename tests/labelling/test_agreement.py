"""Agreement against a published table and by hand."""

import numpy as np
import pytest

from rlhf_jax.labelling import agreement
from rlhf_jax.labelling.agreement import krippendorff_alpha

# Krippendorff 2011, section C: four observers, twelve units, values missing.
TABLE = [
    *([1, 1, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4]),
    *([4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [5, 5, 5], [1, 1]),
]


def test_alpha_of_the_published_table():
    assert krippendorff_alpha(TABLE, interval=False) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(TABLE, interval=True) == pytest.approx(0.849, abs=5e-4)


def test_alpha_of_chance_is_zero_and_of_one_value_undefined():
    draws = np.random.default_rng(0).integers(0, 3, (4000, 2)).tolist()
    assert krippendorff_alpha(draws, interval=False) == pytest.approx(0, abs=0.05)
    assert krippendorff_alpha([[1, 1], [1, 1]], interval=False) is None


def agreed(rows):
    found = agreement(rows)
    assert found is not None
    return found


def pair(annotator, item, shown, choice):
    judgement = {"kind": "pairs", "annotator": annotator, "item": item, "shown": shown}
    return {"judgement": judgement, "choice": choice}


def test_choices_agree_by_answer_not_by_side():
    rows = [
        pair("ann", "1", [0, 1], "left"),
        pair("bob", "1", [1, 0], "right"),
        pair("ann", "2", [1, 0], "left"),
        pair("bob", "2", [1, 0], "tie"),
        pair("ann", "3", [0, 1], "tie"),
    ]
    found = agreed(rows)
    # Values (0, 0) and (1, 2): o has 2 pairs (0, 0) and one each of (1, 2), (2, 1); n = (2, 1, 1).
    # alpha = 1 - 3 * 2 / (2 * (2 + 2 + 1)) = 0.4.
    assert found[:3] == (("ann", "bob"), 2, 0.5)
    assert found.alpha == pytest.approx(0.4)
    assert found.note() == (
        "agreement of ann, bob: 2 judged by several, 50% equal, Krippendorff's alpha 0.40"
    )


def test_ratings_agree_by_answer_and_criterion_and_marks_by_word():
    def rating(annotator, values):
        judgement = {"kind": "ratings", "annotator": annotator, "item": "1", "shown": [1, 0]}
        return {"judgement": judgement, "criteria": {"true": values}}

    # Values (1, 1) and (4, 5): distances 1 within; n = (2, 1, 1), squares 9, 16, 1.
    # alpha = 1 - 3 * 2 / (2 * (2 * 9 + 2 * 16 + 1)) = 1 - 3 / 51.
    found = agreed([rating("ann", [1, 4]), rating("bob", [1, 5])])
    assert (found.units, found.equal) == (2, 0.5)
    assert found.alpha == pytest.approx(1 - 3 / 51)

    def marks(annotator, *spans):
        judgement = {"kind": "spans", "annotator": annotator, "item": "1", "shown": [0]}
        found = [{"start": a, "end": b, "quality": quality} for a, b, quality in spans]
        return {"judgement": judgement, "answer": "It is five now", "spans": found}

    # Words: 0 0 2 1 by ann, 0 0 2 0 by bob, who marked half of "five".
    found = agreed([marks("ann", (6, 10, "bad"), (11, 14, "good")), marks("bob", (6, 8, "bad"))])
    assert (found.units, found.equal) == (4, 0.75)


def test_one_annotator_has_no_agreement_and_equal_judgements_no_alpha():
    assert agreement([pair("ann", "1", [0, 1], "left")]) is None
    found = agreed([pair(name, "1", [0, 1], "tie") for name in ("ann", "bob")])
    assert found.alpha is None
    assert "undefined, all are equal" in found.note()
