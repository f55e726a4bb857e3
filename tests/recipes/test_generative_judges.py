"""A language model as a judge: questions, judgements, verdicts that are not there, and its RL."""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_word_lab import TASK as WORD_TASK
from one_word_lab import one_word_lab, words
from unigram_lab import RED, TASK, rollout_of, unigram_lab

from rlhf_jax.ops.groups import pairwise_advantages
from rlhf_jax.ops.kl import k3
from rlhf_jax.recipes import (
    Penalty,
    generative_judge,
    judge_records,
    judge_verdicts,
    judged_advantages,
    pairwise_grpo,
    sample_traces,
    trace_records,
    verdict_reward,
)
from rlhf_jax.recipes import judges as judge_recipes
from rlhf_jax.recipes.episodes import transcripts
from rlhf_jax.recipes.online_method import Scored
from rlhf_jax.rewards import BINARY, GRADED, QUESTIONS, JudgeQuestion
from rlhf_jax.training import UserError
from rlhf_jax.types import Prompts

SHORT = JudgeQuestion("{prompt}|{first}|{second}", BINARY)
GRADES = JudgeQuestion("{prompt}|{first}|{second}", GRADED)
A, B = "<answer>A</answer>", "<answer>B</answer>"


def pairs_of(*margins):
    return [
        {"prompt": f"p{n}", "chosen": "good", "rejected": "bad", "margin": margin}
        for n, margin in enumerate(margins)
    ]


def test_questions_show_the_chosen_answer_on_either_side():
    rows = judge_records(pairs_of(*[None] * 40), SHORT, seed=0)
    sides = {row["label"]: row["prompt"].split("|")[1:] for row in rows}
    assert sides == {"A": ["good", "bad"], "B": ["bad", "good"]}
    assert judge_records(pairs_of(*[None] * 40), SHORT, seed=0) == rows
    # 40 fair coins: 12 to 28 are 2.5 standard errors.
    assert 12 <= sum(row["label"] == "A" for row in rows) <= 28


def test_grades_are_margins_rounded_up():
    rows = judge_records(pairs_of(0.2, 1.0, 1.1, 2.5, 9.0), GRADES, seed=1)
    assert [abs(int(row["label"])) for row in rows] == [1, 1, 2, 3, 3]
    for row in rows:
        shown = row["prompt"].split("|")
        assert (int(row["label"]) < 0) == (shown[1] == "good")
    for margin in (None, 0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match=r"pair 1: graded verdicts need a margin above 0"):
            judge_records(pairs_of(1.0, margin), GRADES, seed=0)


def test_messages_are_asked_as_one_message():
    pair = {
        "prompt": [{"role": "user", "content": "hello"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }
    (row,) = judge_records([pair], SHORT, seed=0, as_messages=True)
    ((role, text),) = [(turn["role"], turn["content"]) for turn in row["prompt"]]
    assert role == "user"
    assert text.startswith("user: hello|")
    assert {"good", "bad"} == set(text.split("|")[1:])


def test_right_judgements_become_records_and_the_others_are_counted():
    rows = [
        {"prompt": "x", "label": "A"},
        {"prompt": "y", "label": "B"},
        {"prompt": "z", "label": "A"},
    ]
    traces = [[A, f"long {A}", "?"], [A, A, A], [B, A, f"even longer {B}"]]
    records, found = trace_records(rows, traces, BINARY)
    assert records == [{"prompt": "x", "answer": f"long {A}"}, {"prompt": "z", "answer": A}]
    assert found.counts == {"kept": 2, "pairs": 3, "without": 1, "unread": 1, "wrong": 5}
    records, _ = trace_records(rows, traces, BINARY, keep="shortest")
    assert records[0]["answer"] == A
    with pytest.raises(UserError, match=r"none of 2 judgements of 1 pairs .* 1 have none: begin"):
        trace_records(rows[:1], [[B, "?"]], BINARY)


def test_the_rule_pays_for_texts():
    reward = verdict_reward()
    texts = [A, B, "?", "<answer>3</answer>", "<answer>2</answer>", "<answer>-2</answer>"]
    labels = ["A", "A", "A", 2, "2", 2]
    assert reward([""] * 6, texts, label=labels) == [1.0, 0.0, 0.0, 0.5, 1.0, 0.0]
    assert verdict_reward(BINARY, column="who")([""], [B], who=["B"]) == [1.0]
    with pytest.raises(ValueError, match="a judge's label must be one of"):
        reward([""], [A], label=[0])


def judge_of(monkeypatch, write, **options):
    """A judge that writes `write(question)`, with what it was asked and its counts."""
    asked, counts = [], Counter()

    def traces(lab, params, rows, *, samples, sampling=None):
        asked.extend(row["prompt"] for row in rows)
        return [[write(row["prompt"], k) for k in range(samples)] for row in rows]

    monkeypatch.setattr(judge_recipes, "sample_traces", traces)
    lab = one_word_lab()
    question = options.pop("question", SHORT)
    judge = generative_judge(lab, None, question, counts=counts, **options)
    return partial(judge, ["p"]), asked, counts


def longer(question, k):
    _, first, second = question.split("|")
    return A if len(first) > len(second) else B


def test_a_judge_is_asked_in_both_orders(monkeypatch):
    judge, asked, counts = judge_of(monkeypatch, longer)
    assert judge(["long"], ["a"]) == [1.0]
    assert judge(["a"], ["long"]) == [0.0]
    assert asked == ["p|long|a", "p|a|long", "p|a|long", "p|long|a"]
    assert counts == {"judgements": 4, "unread": 0}


def test_a_bias_to_one_place_is_a_tie_in_both_orders_and_a_win_in_one(monkeypatch):
    judge, _, _ = judge_of(monkeypatch, lambda question, k: A)
    assert judge(["x"], ["y"]) == [0.5]
    judge, asked, _ = judge_of(monkeypatch, lambda question, k: A, both_orders=False)
    assert judge(["x"], ["y"]) == [1.0]
    assert len(asked) == 1


def test_judgements_without_a_verdict_are_counted_and_left_out(monkeypatch):
    def sometimes(question, k):
        return "I do not know" if k or "none" in question else A

    judge, _, counts = judge_of(monkeypatch, sometimes, samples=2, both_orders=False)
    assert judge(["x"], ["y"]) == [1.0]
    assert judge(["none"], ["y"]) == [None]
    assert counts == {"judgements": 4, "unread": 3}


def test_grades_keep_their_sizes(monkeypatch):
    judge, _, _ = judge_of(
        monkeypatch, lambda q, k: "<answer>-2</answer>", question=GRADES, both_orders=False
    )
    # 1/2 + 2 / 6
    assert judge(["x"], ["y"]) == [pytest.approx(5 / 6)]


@pytest.mark.long
def test_a_language_model_is_read_through_its_lab():
    """A policy of one word never ends with a verdict."""
    lab, params = one_word_lab(), words(red=0.6, green=0.4)
    rows = [{"prompt": "red blue"}, {"prompt": "green"}]
    traces = sample_traces(lab, params, rows, samples=3)
    assert [len(texts) for texts in traces] == [3, 3]
    assert {text for texts in traces for text in texts} <= {"red", "green"}
    # The draws of a question do not depend on what else is asked.
    assert sample_traces(lab, params, rows[1:], samples=3) == traces[1:]
    question = JudgeQuestion("{prompt} {first} {second}", BINARY)
    found = judge_verdicts(lab, params, question, ["red"], ["blue"], ["green"], samples=2)
    np.testing.assert_array_equal(found, [[np.nan, np.nan]])
    assert generative_judge(lab, params, question)(["red"], ["blue"], ["green"]) == [None]
    assert sample_traces(lab, params, [], samples=1) == []
    assert len(WORD_TASK.splits["heldout"]) == 5
    assert "answer" in QUESTIONS["binary"].text


# ---- A policy of the judge's comparisons.

LAB = unigram_lab()


def redder(prompts, first, second):
    """The answer with more red wins; no verdict on what has one red."""
    counts = [(a.count("red"), b.count("red")) for a, b in zip(first, second, strict=True)]
    return [None if 1 in pair else 0.5 + 0.5 * np.sign(pair[0] - pair[1]) for pair in counts]


def test_advantages_come_straight_from_the_comparisons():
    answers = np.array([[[RED, RED, RED], [RED, 5, 6], [5, 5, 5], [6, 6, 6]]])
    rollout = rollout_of(LAB, answers)
    reward = judged_advantages(LAB, TASK, redder, eps=0.0)
    given, named = reward.host(Prompts((), np.array([0])), transcripts(rollout, None))
    # Three answers are compared: D = 1/2, 1/2, 0 above the diagonal. Row means 1/3, -1/6, -1/6;
    # squares 4 / 4 over 2 * 3 * 2: sqrt(1/12).
    wanted = np.array([1 / 3, -1 / 6, -1 / 6]) * np.sqrt(12)
    np.testing.assert_allclose(given[0, [0, 2, 3]], wanted, rtol=1e-5)
    assert np.isnan(given[0, 1])
    np.testing.assert_allclose(named["judge/verdicts"], [[2 / 3, 0.0, 2 / 3, 2 / 3]])
    np.testing.assert_array_equal(named["red"], [[3.0, 1.0, 0.0, 0.0]])
    gaps = jnp.array([[0.0, 0.5, 0.5], [-0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]])
    np.testing.assert_allclose(pairwise_advantages(gaps, eps=0.0), wanted, rtol=1e-5)


def test_the_method_takes_them_as_they_are():
    method = pairwise_grpo(LAB, samples=3, kl=Penalty(0.1, k3))
    answers = np.array([[[RED, RED, RED], [RED, 5, 6], [5, 5, 5]]])
    rollout = rollout_of(LAB, answers)
    scored = Scored(rollout, jnp.array([[1.5, jnp.nan, -1.5]]), rollout.token_logps, 0.1)
    batch, _ = method.prepare(LAB.policy.init(jax.random.key(0)), scored)
    np.testing.assert_array_equal(batch.columns["advantages"], [1.5, 0.0, -1.5])
    np.testing.assert_array_equal(batch.weights, [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="has no scores to subtract a KL from"):
        pairwise_grpo(LAB, samples=3, kl=Penalty(0.1))
    with pytest.raises(ValueError, match=r"samples must be in \[2, inf\)"):
        pairwise_grpo(LAB, samples=1)
