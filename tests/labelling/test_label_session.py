"""A judgement from the page to the records that training reads."""

import json

import pytest
from labelled_rows import ROWS, write_rows

from rlhf_jax.data.formats import read_rows
from rlhf_jax.data.records import Pair, Ranking, Steps
from rlhf_jax.labelling.rows import BadLabel, LabelTask, label_row
from rlhf_jax.labelling.session import describe_task, judge, show_next, undo

ANN, BOB = {"annotator": "ann"}, {"annotator": "bob"}


def judge_all(session, message, judgements):
    """Judges the items as they come; returns what was shown."""
    shown = []
    for judgement in judgements:
        item = show_next(session, message)["item"]
        judge(session, message | {"key": item["key"], "seconds": 1.26} | judgement)
        shown.append(item)
    return shown


def test_pairs_that_are_read_are_the_choices_that_were_made(start, out):
    session = start()
    chosen = judge_all(
        session, ANN, [{"choice": "left"}, {"choice": "right", "strength": 3}, {"choice": "tie"}]
    )
    found = read_rows(out)
    assert (found.format, found.kind, found.unused) == ("label_pairs", "pairs", ())
    assert found.counts == {"ties": 1}
    first, second = ((shown["prompt"][0]["text"], *shown["answers"]) for shown in chosen[:2])
    assert found.records == (
        Pair(*first, annotator="ann"),
        Pair(second[0], second[2], second[1], margin=3.0, annotator="ann"),
    )


def test_a_row_says_by_whom_and_how_it_was_shown_but_the_page_sees_no_origin(start, out):
    session = start()
    item = show_next(session, ANN)["item"]
    assert item.keys() == {"key", "prompt", "answers"}
    judge(session, ANN | {"key": item["key"], "choice": "both_bad", "seconds": 1.26})
    (row,) = map(json.loads, out.read_text().splitlines())
    judgement = row.pop("judgement")
    assert judgement.pop("time").endswith("+00:00")
    shown = judgement.pop("shown")
    assert judgement == {
        "kind": "pairs",
        "annotator": "ann",
        "item": item["key"],
        "seed": 0,
        "seconds": 1.3,
    }
    assert [sorted(item["answers"])[i] for i in shown] == item["answers"]
    assert row == {
        "prompt": item["prompt"][0]["text"],
        "chosen": None,
        "rejected": None,
        "choice": "both_bad",
        "margin": None,
        "answers": item["answers"],
    }


def test_ratings_become_rankings_by_the_mean_of_their_criteria(start, out):
    session = start("ratings", criteria=("true", "kind"))
    (item,) = judge_all(session, ANN, [{"ratings": {"true": [5, 1], "kind": [4, 1]}}])
    (ranking,) = read_rows(out).records
    assert isinstance(ranking, Ranking)
    scores = dict(zip(ranking.answers, ranking.scores, strict=True))
    assert scores == dict(zip(item["answers"], [4.5, 1.0], strict=True))
    assert read_rows(out, kind="pairs").records == (
        Pair(item["prompt"][0]["text"], *item["answers"], margin=3.5),
    )


def test_marks_become_steps_that_are_wrong_where_a_bad_mark_touches_them(start, data, out):
    answer = "Easy 🙂. It is 5!\nSo, e.g. 2+3."
    write_rows(data, [{"prompt": "2+2?", "answer": answer}])
    bad = {"start": answer.index("5"), "end": answer.index("5") + 1, "quality": "bad"}
    good = {"start": 0, "end": 4, "quality": "good", "category": "style"}
    judge_all(start("spans"), ANN, [{"spans": [bad | {"category": "facts"}, good]}])
    assert read_rows(out).records == (
        Steps("2+2?", ("Easy 🙂.", "It is 5!", "So, e.g.", "2+3."), (1.0, 0.0, 1.0, 1.0)),
    )
    (row,) = map(json.loads, out.read_text().splitlines())
    assert [span["text"] for span in row["spans"]] == ["5", "Easy"]


def test_messages_and_tools_come_back_as_they_were(start, data, out):
    user = {"role": "user", "content": "2+2?"}
    sides = [[{"role": "assistant", "content": text}] for text in ("4", "5")]
    tools = [{"name": "add"}]
    row = {"prompt": [user], "chosen": sides[0], "rejected": sides[1], "tools": tools}
    write_rows(data, [row])
    (item,) = judge_all(start(), ANN, [{"choice": "right"}])
    (pair,) = read_rows(out).records
    wanted = Pair((user,), *((side[0],) for side in sides), None, tuple(tools), annotator="ann")
    flipped = item["answers"][1] == "5"
    assert pair == (wanted._replace(chosen=wanted[2], rejected=wanted[1]) if flipped else wanted)


def test_undo_takes_back_the_own_last_judgement_and_shows_it_again(start, out):
    session = start()
    (_, last) = judge_all(session, ANN, [{"choice": "left"}, {"choice": "tie"}])
    judge_all(session, BOB, [{"choice": "left"}])
    assert undo(session, ANN) == {"undone": last["key"], "item": last}
    names = [json.loads(line)["judgement"]["annotator"] for line in out.read_text().splitlines()]
    assert names == ["ann", "bob"]
    judge(session, ANN | {"key": last["key"], "choice": "left"})
    assert [row["judgement"]["annotator"] for row in session.labels.rows] == ["ann", "bob", "ann"]
    assert [undo(session, ANN)["undone"] is None for _ in range(3)] == [False, False, True]
    assert [row["judgement"]["annotator"] for row in session.labels.rows] == ["bob"]


def test_work_goes_on_after_a_restart_and_ends(start):
    judged = judge_all(start(), ANN, [{"choice": "left"}])
    session = start()
    found = show_next(session, ANN)
    assert (found["done"], found["total"]) == (1, 3)
    judged += judge_all(session, ANN, [{"choice": "tie"}, {"choice": "right"}])
    assert sorted(item["prompt"][0]["text"] for item in judged) == [row["prompt"] for row in ROWS]
    assert show_next(session, ANN) == {"done": 3, "total": 3, "item": None}
    assert show_next(session, BOB)["done"] == 0


def test_skipped_items_come_last(start):
    session = start()
    first = show_next(session, ANN)["item"]["key"]
    second = show_next(session, ANN | {"skipped": [first]})["item"]["key"]
    third = show_next(session, ANN | {"skipped": [first, second]})["item"]["key"]
    assert len({first, second, third}) == 3
    assert show_next(session, ANN | {"skipped": [first, second, third]})["item"]["key"] == first


def test_an_item_is_judged_once_by_each(start):
    session = start()
    (item,) = judge_all(session, ANN, [{"choice": "left"}])
    with pytest.raises(BadLabel, match="judged already"):
        judge(session, ANN | {"key": item["key"], "choice": "right"})
    judge(session, BOB | {"key": item["key"], "choice": "right"})
    assert len(session.labels.rows) == 2


MARK = {"start": 0, "end": 2, "quality": "bad", "category": "facts"}


@pytest.mark.parametrize(
    ("kind", "judgement", "message"),
    [
        ("pairs", {}, "choice must be one of left"),
        ("pairs", {"choice": ["left"]}, "choice must be one of left"),
        ("pairs", {"choice": "left", "strength": 4}, "strength is 1, 2 or 3"),
        ("pairs", {"choice": "left", "strength": True}, "strength is 1, 2 or 3"),
        ("pairs", {"choice": "tie", "strength": 1}, "of an answer that is better"),
        ("ratings", {}, "ratings are by overall"),
        ("ratings", {"ratings": {"overall": [1, 2], "more": [1, 2]}}, "ratings are by overall"),
        ("ratings", {"ratings": {"overall": [1]}}, "every answer needs a rating"),
        ("ratings", {"ratings": {"overall": [1, None]}}, "ratings are from 1 to 5"),
        ("ratings", {"ratings": {"overall": [6, 1]}}, "ratings are from 1 to 5"),
        ("spans", {}, "spans are a list"),
        ("spans", {"spans": [MARK] * 1001}, "at most 1000"),
        ("spans", {"spans": [MARK | {"end": 99}]}, "within the answer"),
        ("spans", {"spans": [MARK | {"start": 2}]}, "within the answer"),
        ("spans", {"spans": [MARK | {"start": -1}]}, "within the answer"),
        ("spans", {"spans": [MARK | {"start": "0"}]}, "within the answer"),
        ("spans", {"spans": [MARK | {"quality": "so-so"}]}, "good or bad, by one of facts"),
        ("spans", {"spans": [MARK | {"category": "luck"}]}, "good or bad, by one of facts"),
        ("spans", {"spans": [None]}, "within the answer"),
        ("pairs", {"choice": "left", "annotator": " "}, "give your name"),
        ("pairs", {"choice": "left", "annotator": "a" * 65}, "at most 64 characters"),
        ("pairs", {"choice": "left", "annotator": "a\nb"}, "no control characters"),
        ("pairs", {"choice": "left", "annotator": 7}, "give your name"),
        ("pairs", {"choice": "left", "key": "other"}, "no such item"),
        ("pairs", {"choice": "left", "key": None}, "no such item"),
    ],
)
def test_a_judgement_that_does_not_fit_is_refused_and_nothing_is_written(
    start, out, kind, judgement, message
):
    session = start(kind)
    item = show_next(session, ANN)["item"]
    with pytest.raises(BadLabel, match=message):
        judge(session, ANN | {"key": item["key"]} | judgement)
    assert out.read_text() == ""


@pytest.mark.parametrize("seconds", [None, "3", -1, float("nan"), 10**400])
def test_time_that_makes_no_sense_is_left_out(start, seconds):
    session = start()
    item = next(iter(session.items.values()))
    row = label_row(session.task, item, "ann", {"choice": "tie", "seconds": seconds})
    assert row["judgement"]["seconds"] is None


def test_a_task_has_a_kind_and_different_names(start):
    assert describe_task(start("spans"), {})["categories"][0] == "facts"
    with pytest.raises(ValueError, match="kind must be one of pairs"):
        LabelTask("stars")
    for names in ((), ("a", "a"), (" ",)):
        with pytest.raises(ValueError, match="criteria must be different names"):
            LabelTask("ratings", criteria=names)
