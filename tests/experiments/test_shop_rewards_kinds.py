"""Kinds of shop_rewards: what each is trained on, and how verdicts are read."""

import numpy as np
import pytest

from experiments.shop_rewards import world
from experiments.shop_rewards.kinds import curated, features, judge, pairwise, principles, spans
from rlhf_jax.data.spans import sentences
from rlhf_jax.envs import shop
from rlhf_jax.types import Rollout, Trajectory


def pairs(count):
    return [
        {"prompt": f"p {i}", "chosen": "good .", "rejected": "bad .", "index": i}
        for i in range(count)
    ]


# Curation


def test_the_judge_is_right_in_its_share_whatever_is_shown_first():
    prompts, good, bad = [f"p {i}" for i in range(1000)], ["a"] * 1000, ["b"] * 1000
    gold = {(p, a): x for p in prompts for a, x in (("a", 1.0), ("b", 0.0))}
    first = np.array(curated.judged(0.9, gold, prompts, good, bad), float)
    second = np.array(curated.judged(0.9, gold, prompts, bad, good), float)
    assert abs(first.mean() - 0.9) < 0.03
    assert (first == 1.0 - second).all()
    assert curated.judged(1.0, gold, prompts[:2], bad[:2], good[:2]) == [0.0, 0.0]


def test_gold_of_marked_and_flipped_answers_is_that_of_the_answers_they_were():
    clean = [{**row, "gold_chosen": 0.9, "gold_rejected": 0.2} for row in pairs(40)]
    for form, level in (("flipped", 0.5), ("spurious", 0.8)):
        part = world.Part(form, 0, None, world.in_form(clean, form, level, 0), clean, [])
        gold = curated.answers_gold(part)
        for row in part.pairs:
            expected = [0.2, 0.9] if row["wrong"] else [0.9, 0.2]
            assert [gold[row["prompt"], row[side]] for side in world.SIDES] == expected


# Named features


def test_a_rating_is_the_same_each_time_and_near_the_axis():
    prompts = range(40)
    texts = [shop.ideal_answer(shop.make_prompt(0, i)) for i in prompts]
    found = features.rate(0, prompts, texts)
    assert found == features.rate(0, prompts, texts)
    assert [*found] == list(shop.AXES)
    values = np.array([*found.values()], float)
    assert values[0].mean() > 4.0  # helpful, of ideal answers, of 5
    assert values.min() >= 0.0
    assert values.max() <= 5.0


def test_a_share_of_the_pairs_is_the_first_ones():
    assert world.first_share(pairs(40), 10) == pairs(4)
    assert world.first_share(pairs(40), 1) == pairs(40)
    assert len(world.first_share(pairs(40), 384)) == 2


def test_a_rater_has_a_row_of_features_in_0_to_1_for_each_answer():
    rater = features.Rater(features.count, features.COUNTED)
    rows = rater.rows([{"index": 0, "answer": "it costs 50 dollars . it is light !"}])
    np.testing.assert_allclose(rows, [[9 / 48, 2 / 8, 1 / 4]], rtol=1e-6)
    assert rater.rows(pairs(3), "chosen").shape == (3, 3)


def test_counts_say_nothing_of_the_quality():
    found = features.count([0], ["it costs 50 dollars . it is light !"])
    assert found == {"words": [9], "sentences": [2], "numbers": [1]}


# Spans, principles, pairs


def answers(count=60):
    """Ideal answers, and the same with a lie in front."""
    found = []
    for i in range(count):
        text = shop.ideal_answer(shop.make_prompt(0, i))
        found.append({"prompt": shop.make_prompt(0, i).text, "answer": text, "index": i})
    return found


def test_ideal_answers_have_no_marks_but_those_of_errors_in_their_share():
    rows = answers()
    assert not any(row["spans"] for row in (spans.marked(0, x, 0.0) for x in rows))
    parts = sum(len(sentences(row["answer"])) for row in rows)
    wrong = [span for row in rows for span in spans.marked(0, row, 0.25)["spans"]]
    assert abs(len(wrong) / (2 * parts) - 0.25) < 0.1
    assert {span.kind for span in wrong} == {*spans.MARKS}
    assert spans.marked(0, rows[0], 0.25) == spans.marked(0, rows[0], 0.25)


def test_a_sentence_with_a_false_claim_is_marked_and_its_neighbours_are_not():
    for i in range(200):
        prompt = shop.make_prompt(0, i)
        text = shop.ideal_answer(prompt)
        claims_of = [x for x in shop.score(prompt, text).claims if x.status == "true"]
        price = next((x for x in claims_of if text[x.start : x.end].split()[0].isdigit()), None)
        if price is None:
            continue
        word = text[price.start : price.end].split()[0]
        lie = text[: price.start] + text[price.start :].replace(word, str(int(word) + 10), 1)
        found = spans.marked(0, {"prompt": prompt.text, "answer": lie, "index": i}, 0.0)["spans"]
        false = [span for span in found if span.kind == "false"]
        if false:
            inside = [(a, b) for a, b in sentences(lie) if a <= price.start < b]
            assert [(span.start, span.end) for span in false] == inside
            return
    pytest.fail("no answer states a price in digits")


def test_annotators_of_a_principle_are_right_but_for_their_share():
    rows = answers()
    exact = [principles.labelled_by(0, row, "helpful", 0.0)["label"] for row in rows]
    assert np.mean(exact) > 0.9  # of ideal answers
    noisy = [principles.labelled_by(0, row, "helpful", 0.25)["label"] for row in rows]
    assert abs(np.mean(np.array(exact) != np.array(noisy)) - 0.25) < 0.15


def test_the_first_answer_to_a_prompt_is_its_anchor():
    rows = [{"prompt": p, "answer": a} for p, a in (("x", "1"), ("y", "2"), ("x", "3"))]
    assert pairwise.anchors_of(rows) == {"x": "1", "y": "2"}


def test_a_judgement_ends_with_the_verdict_of_its_ratings():
    first = shop.ideal_answer(shop.make_prompt(0, 3))
    for number in range(8):
        one = judge.judgement(0, 3, first, "no .", number)
        words = one.text.split()
        rated = np.array([*map(int, words[1::3])]), np.array([*map(int, words[2::3])])
        assert words[0::3][: one.axes] == list(shop.AXES[: one.axes])
        gap = rated[0].sum() - rated[1].sum()
        assert (words[-1] == "yes") == (one.z == 1.0)
        assert gap * one.z >= 0
        assert len(words) + 1 <= judge.LONGEST


def test_the_longest_right_judgement_is_kept_and_pairs_without_one_are_counted():
    rows = [{**row, "chosen": row["answer"], "rejected": "no ."} for row in answers(12)]
    found, counts = judge.judged_pairs(0, rows, 0)
    assert counts["kept"] == len(found) == 12 - counts["without"]
    assert counts["kept"] > 8
    for row in found:
        shown = row["prompt"].rsplit(" better than ", 1)
        assert row["answer"].endswith("no" if shown[1] != "no . ?" else "yes")
    wrong, none = judge.judged_pairs(
        0, [{**row, "chosen": "no .", "rejected": row["answer"]} for row in rows], 0
    )
    assert none["without"] > counts["without"]
    assert len(wrong) == none["kept"]


def test_log_odds_are_those_of_the_last_word_before_the_end():
    """yes with probability 0.8; no with 0.6; another word; a judgement that was cut."""
    actions = np.array([[[7, 1, 9]], [[2, 9, 0]], [[5, 9, 0]], [[7, 7, 1]]])
    logps = np.log([[[0.5, 0.8, 0.9]], [[0.6, 0.9, 1.0]], [[0.6, 0.9, 1.0]], [[0.5, 0.5, 0.8]]])
    mask = np.array([[[1, 1, 1]], [[1, 1, 0]], [[1, 1, 0]], [[1, 1, 1]]], bool)
    trajectory = Trajectory(None, actions, mask, mask)
    drawn = Rollout(trajectory, logps, logps, np.array([[True], [True], [True], [False]]))
    found = judge.last_verdicts(drawn, yes=1, no=2)
    np.testing.assert_allclose(found[:2], [np.log(4.0), -np.log(1.5)], rtol=1e-6)
    assert np.isnan(found[2:]).all()
