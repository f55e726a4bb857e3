"""Tasks: prompts by number, and what is wrong with a score is said by its prompt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.recipes import objective_teacher, overall, score_answers, text_task
from rlhf_jax.recipes.task import check_single_turn
from rlhf_jax.training import UserError

PROMPTS = ["one", "two", "three", "four"]


def letters(prompts, answers):
    return {
        "letters": [len(a) for a in answers],
        "right": [p == a for p, a in zip(prompts, answers, strict=True)],
    }


def test_the_last_prompts_are_held_out():
    task = text_task(PROMPTS, letters, objective="letters", heldout=1)
    assert task.texts(np.array([3, 0])) == ["four", "one"]
    assert (task.splits["train"], task.splits["heldout"]) == (range(3), range(3, 4))


def test_an_objective_is_a_score_or_a_weighted_sum():
    task = text_task(PROMPTS, letters, objective={"letters": 0.5, "right": 2.0}, heldout=1)
    scores = score_answers(task, np.array([0, 1]), ["one", "three"])
    np.testing.assert_array_equal(scores["letters"], [3.0, 5.0])
    # 0.5 * 3 + 2 * 1 and 0.5 * 5 + 2 * 0.
    np.testing.assert_array_equal(overall(task, scores), [3.5, 2.5])


def test_none_and_nan_leave_an_answer_out():
    task = text_task(PROMPTS, lambda p, a: {"s": [None, float("nan"), 1]}, objective="s", heldout=1)
    found = score_answers(task, np.arange(3), ["", "", ""])["s"]
    np.testing.assert_array_equal(found, [np.nan, np.nan, 1.0])


def raises(prompts, answers):
    raise RuntimeError("out of paper")


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (raises, r"prompts 7, 8 failed: RuntimeError: out of paper"),
        (lambda p, a: {"s": [1.0]}, r"score 's' has 1 numbers, expected 2"),
        (lambda p, a: {"s": [1.0, float("inf")]}, r"answer to prompt 8 is inf"),
        (lambda p, a: {"s": ["good", 1.0]}, r"answer to prompt 7 is 'good'"),
        (lambda p, a: {"s": [1.0, 1e39]}, r"answer to prompt 8 is 1e\+39; .* float32"),
        (lambda p, a: {"s": np.ones((2, 2))}, r"answer to prompt 7 is \[1\.0, 1\.0\]"),
        (lambda p, a: {"s": 1.0}, r"score 's' must have one number for each answer, got 1\.0"),
        (lambda p, a: [1.0, 2.0], r"prompts 7, 8 must give scores by name, .* got \[1\.0, 2\.0\]"),
        (lambda p, a: None, r"must give scores by name, .* got None"),
    ],
)
def test_a_bad_score_names_its_prompt(score, message):
    task = text_task(["p"] * 9, score, objective="s", heldout=1)
    with pytest.raises(UserError, match=message):
        score_answers(task, np.array([7, 8]), ["a", "b"])


def test_an_unknown_objective_is_named():
    task = text_task(PROMPTS, letters, objective="helpful", heldout=1)
    with pytest.raises(UserError, match="has the score 'helpful', which the task does not give"):
        overall(task, score_answers(task, np.array([0]), ["one"]))


def test_an_objective_of_nothing_is_refused():
    task = text_task(PROMPTS, letters, objective={}, heldout=1)
    with pytest.raises(UserError, match=r"must name a score .* gives \['letters', 'right'\]"):
        overall(task, score_answers(task, np.array([0]), ["one"]))


def test_scores_may_be_an_array_of_jax():
    task = text_task(PROMPTS, lambda p, a: {"s": jnp.arange(2.0)}, objective="s", heldout=1)
    np.testing.assert_array_equal(score_answers(task, np.arange(2), ["", ""])["s"], [0.0, 1.0])


@pytest.mark.parametrize("prompts", [[], ["one"]])
def test_a_task_needs_a_prompt_for_either_split(prompts):
    with pytest.raises(UserError, match=f"at least 2 prompts, .* got {len(prompts)}"):
        text_task(prompts, letters, objective="letters", heldout=1)


@pytest.mark.parametrize("heldout", [0, 4])
def test_a_split_without_prompts_is_refused(heldout):
    with pytest.raises(ValueError, match="heldout"):
        text_task(PROMPTS, letters, objective="letters", heldout=heldout)


def test_the_teacher_of_an_objective_prefers_more_of_it_and_has_no_opinion_on_ties():
    scores = {"a": 1.0, "bb": 2.0, "cc": 2.0, "?": None}
    task = text_task(PROMPTS, lambda p, a: {"s": [scores[x] for x in a]}, objective="s", heldout=1)
    teacher = objective_teacher(task)
    labels = teacher(
        jax.random.key(0), np.arange(4), ["a", "bb", "bb", "?"], ["bb", "a", "cc", "a"]
    )
    np.testing.assert_array_equal(labels.kept, [True, True, False, False])
    np.testing.assert_array_equal(labels.winners[:2], [1, 0])


def test_a_recipe_of_single_answers_refuses_episodes():
    single = text_task(PROMPTS, letters, objective="letters", heldout=1)
    check_single_turn(single, "selfplay")
    episodes = single._replace(step=lambda index, history, answer: (None, 0.0, True), max_turns=2)
    with pytest.raises(UserError, match="selfplay draws single answers, and this task has a step"):
        check_single_turn(episodes, "selfplay")
