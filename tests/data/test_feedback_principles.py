"""Principles from comments: extraction, span check, consensus, merging, and what is counted."""

import json

import numpy as np
import pytest

from rlhf_jax.data.formats import read_rows
from rlhf_jax.data.principles import (
    NO,
    YES,
    FeedbackComment,
    PrinciplePoint,
    agreed_points,
    checked_spans,
    extracted_points,
    merged_points,
    phrase_extractor,
    principle_numbers,
    principle_records,
    span_ratio,
)

COMMENTS = [
    FeedbackComment("a1", "ann", "It is short and names  a PRICE."),
    FeedbackComment("a1", "bob", "names a price . rude !"),
    FeedbackComment("a2", "ann", "nothing to say"),
]


def point(answer, annotator, principle, verdict=YES, span="s", comment="s"):
    return PrinciplePoint(answer, annotator, principle, verdict, span, comment)


def test_known_phrases_are_found_on_whole_words():
    extract = phrase_extractor({"a price": ("price", YES), "rude": ("kind", NO), "hor": ("x", YES)})
    assert extract([comment.text for comment in COMMENTS]) == [
        [],  # "a price." is one word with its full stop
        [("price", YES, "a price"), ("kind", NO, "rude")],
        [],
    ]


def test_only_points_with_a_verdict_are_kept_and_the_rest_is_counted():
    replies = [
        [("price", "Yes", "a price"), ("tone", "partially", "x"), ("Helpfulness", "no", "x")],
        [("price", "maybe", "a price")],
        None,
    ]
    found = extracted_points(COMMENTS, lambda comments: replies)
    assert found.points == (PrinciplePoint("a1", "ann", "price", YES, "a price", COMMENTS[0].text),)
    assert found.counts == {
        "kept": 1,
        "partially": 1,
        "catch-all": 1,
        "no verdict": 1,
        "unread comments": 1,
    }
    with pytest.raises(ValueError, match="reply to each of 3 comments, got 1"):
        extracted_points(COMMENTS, lambda comments: [[]])


def test_a_quote_is_found_up_to_a_few_letters():
    text = "I think that the price is rong, sadly"
    assert span_ratio("The  price", text) == 100.0
    # 18 letters, the best window has 17 of them in order: 17 / 18.
    assert span_ratio("the price is wrong", text) == pytest.approx(100 * 17 / 18)
    assert span_ratio("zzz", text) == span_ratio(" ", text) == 0.0
    # "abcd" against "acbd": 3 in order of 4.
    assert span_ratio("abcd", "acbd") == 75.0


def test_span_ratio_is_the_longest_common_subsequence_of_the_best_window():
    def slow(one, other):
        table = np.zeros((len(one) + 1, len(other) + 1), int)
        for i, x in enumerate(one):
            for j, y in enumerate(other):
                longer = max(table[i, j + 1], table[i + 1, j])
                table[i + 1, j + 1] = table[i, j] + 1 if x == y else longer
        return table[-1, -1]

    rng = np.random.default_rng(0)
    for _ in range(30):
        short, long = ("".join(rng.choice(list("abc"), size=n)) for n in (7, 20))
        best = max(slow(short, long[at : at + 7]) for at in range(14))
        assert span_ratio(short, long) == pytest.approx(100 * best / 7)


def test_points_without_their_words_are_dropped_and_counted():
    points = [
        point("a", "ann", "price", span="a price", comment="it names a price"),
        point("a", "ann", "tone", span="quite rude", comment="it names a price"),
    ]
    found = checked_spans(points)
    assert found == ((points[0],), {"kept": 1, "span not found": 1})
    assert checked_spans(points, threshold=0.0).counts == {"kept": 2}
    with pytest.raises(ValueError, match="threshold must be in"):
        checked_spans(points, threshold=100.0)


PEOPLE = [FeedbackComment("a", who, "") for who in ("ann", "bob", "cem")]
NAMED = [
    point("a", "ann", "price"),
    point("a", "bob", "Price", NO),
    point("a", "cem", "price"),
    point("a", "ann", "tone"),
    point("a", "bob", "tone"),
]


def test_every_other_annotator_must_name_it():
    found = agreed_points(NAMED, PEOPLE)
    assert found == (tuple(NAMED[:3]), {"kept": 3, "not agreed": 2})
    assert agreed_points(NAMED, PEOPLE, annotators=2).counts == {"kept": 5}
    assert agreed_points(NAMED, PEOPLE, annotators=1).counts == {"kept": 5}
    # A fourth annotator without any point does not agree.
    silent = [*PEOPLE, FeedbackComment("a", "dan", "hm")]
    assert agreed_points(NAMED, silent).counts == {"kept": 0, "not agreed": 5}


def test_one_annotator_cannot_agree():
    points = [point("b", "ann", "price")]
    people = [FeedbackComment("b", "ann", "")]
    assert agreed_points(points, people).counts == {"kept": 0, "one annotator": 1}
    assert agreed_points(points, people, annotators=1).counts == {"kept": 1}
    with pytest.raises(ValueError, match="annotator 'eve' has a point, but no comment, on 'b'"):
        agreed_points([point("b", "eve", "price")], people)


def test_vectors_say_what_means_the_same():
    points = [point("a", "ann", "price"), point("a", "bob", "cost"), point("a", "cem", "tone")]
    # Cosines: price and cost 0.8, price and tone 0, cost and tone 0.6.
    vectors = {"price": [2.0, 0.0], "cost": [0.8, 0.6], "tone": [0.0, 3.0]}
    near = {"vectors": vectors, "annotators": 2}
    assert agreed_points(points, PEOPLE, threshold=0.79, **near).counts["kept"] == 2
    assert agreed_points(points, PEOPLE, threshold=0.81, **near).counts["kept"] == 0
    assert agreed_points(points, PEOPLE, threshold=0.5, **near).counts["kept"] == 3
    merged = merged_points(points, vectors=vectors, threshold=0.79)
    assert [x.principle for x in merged.points] == ["price", "tone"]
    with pytest.raises(ValueError, match="the principle 'tone' has no vector"):
        agreed_points(points, PEOPLE, vectors={"price": [1.0], "cost": [1.0]})
    with pytest.raises(ValueError, match="'price' must be finite and not 0"):
        merged_points(points, vectors=vectors | {"price": [0.0, 0.0]})


def test_one_verdict_is_left_for_each_answer_and_principle():
    split = [point("b", "ann", "tone", YES), point("b", "bob", "tone", NO)]
    found = merged_points([*NAMED[1:3], NAMED[0], *split])
    assert found == ((NAMED[2],), {"kept": 1, "merged": 2, "split": 2})


def test_nothing_is_lost_and_records_are_what_the_reward_reads():
    agreed = agreed_points(NAMED, PEOPLE)
    assert sum(agreed.counts.values()) == len(NAMED)
    merged = merged_points(agreed.points)
    assert sum(merged.counts.values()) == len(agreed.points)
    assert principle_records(merged.points, {"a": ("2+2?", "4")}) == [
        {"prompt": "2+2?", "answer": "4", "principle": "price", "label": True}
    ]


def test_a_principle_never_seen_is_named():
    known = ["price", "tone"]
    np.testing.assert_array_equal(principle_numbers(["tone", "price", "tone"], known), [1, 0, 1])
    with pytest.raises(ValueError, match=r"knows no principle 'wit'; .* on 2 \('price', 'tone'\)"):
        principle_numbers(["price", "wit"], known)


def test_a_file_of_labelled_answers_keeps_its_principles(tmp_path):
    row = {"prompt": "2+2?", "answer": "4", "label": True}
    rows = [row | {"principle": "short"}, row | {"principle": "kind", "label": False}, row]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = read_rows(path, kind="labelled")
    assert [each.principle for each in found.records] == ["short", "kind", None]
    # Yes to one principle and no to another is no contradiction.
    assert found.counts == {}
