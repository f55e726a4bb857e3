"""Directions in prompts: numerals, their arithmetic, what answers are worth, and a tiny policy."""

import jax
import numpy as np
import optax
import pytest
from unigram_lab import RED, keyed, unigram_lab
from word_lab import transformer_lab

from rlhf_jax.recipes import (
    Fit,
    best_of,
    directed_prompt,
    directed_scores,
    directed_task,
    direction_grid,
    online,
    prompt_rows,
    read_direction,
    score_answers,
    task_reward,
    text_task,
    write_direction,
)
from rlhf_jax.recipes.task import overall
from rlhf_jax.training import UserError, open_run, read_metrics, run_stage

NAMES = ["red", "short"]
PROMPTS = ["red", "green", "blue", "grey"]


def reds(prompts, answers):
    """How many words are red, and how many are left out of 4."""
    return {
        "red": [answer.split().count("red") for answer in answers],
        "short": [4 - len(answer.split()) for answer in answers],
    }


def two_rewards(**changes):
    options = {"objective": {"red": 1.0, "short": 0.5}, "heldout": 1} | changes
    return text_task(options.pop("prompts", PROMPTS), options.pop("score", reds), **options)


def test_the_grid_by_hand():
    half = 3**0.5 / 2
    np.testing.assert_allclose(direction_grid(3, 30.0), [[half, -0.5], [1, 0], [half, 0.5]])
    np.testing.assert_allclose(direction_grid(1, 30.0), [[1, 0]])
    with pytest.raises(ValueError, match=r"count must be in \[1, inf\)"):
        direction_grid(0, 30.0)
    with pytest.raises(ValueError, match=r"angle must be in \(0, 90\]"):
        direction_grid(3, 91.0)


def test_numerals_are_written_and_read():
    # 100 cos 30 = 86.6, 100 sin 30 = 50
    assert write_direction(NAMES, direction_grid(3, 30.0)[2]) == "red 87 short 50"
    for direction in direction_grid(31, 90.0):
        shown = directed_prompt("a prompt", write_direction(NAMES, direction))
        assert shown.startswith("a prompt weights : red ")
        found = read_direction(shown, NAMES)
        assert np.linalg.norm(found) == pytest.approx(1.0)
        assert np.degrees(np.arccos(min(found @ direction, 1.0))) < 0.5  # of rounding
    three = np.array([2.0, -1.0, 2.0]) / 3
    text = write_direction(["a", "b", "c"], three)
    assert text == "a 67 b -33 c 67"
    np.testing.assert_allclose(read_direction(text, ["a", "b", "c"]), three, atol=0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red 80 short 80", r"the weights \[80, 80\] must be a unit vector times 100.* is 113.1"),
        ("red 0 short 0", r"\[0, 0\] must be a unit vector times 100"),
        ("red 80", "the text must end with 'red N short N', whole numbers N, got 'red 80'"),
        ("short 60 red 80", "the text must end with"),
        ("red 80 short 60 please", "the text must end with"),
        ("red 0.8 short 0.6", "the text must end with"),
        ("infrared 80 short 60", "the text must end with"),
    ],
)
def test_weights_that_are_no_direction_are_named(text, message):
    with pytest.raises(UserError, match=message):
        read_direction(text, NAMES)


def test_directions_that_cannot_be_written_are_named():
    with pytest.raises(ValueError, match="the length of directions must be"):
        write_direction(NAMES, np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="one entry for each of 2 rewards, got 3"):
        write_direction(NAMES, np.array([1.0, 0.0, 0.0]))
    for names in (["red", "red"], ["very red", "short"]):
        with pytest.raises(UserError, match="different names of one word"):
            write_direction(names, np.array([1.0, 0.0]))


def test_prompts_and_scores_of_a_directed_task():
    task = directed_task(two_rewards(), np.array([[0.8, -0.6], [1.0, 0.0]]))
    assert task.splits == {"train": range(6), "heldout": range(6, 8)}
    numbers = np.array([0, 1, 7])
    assert task.texts(numbers) == [
        "red weights : red 80 short -60",
        "red weights : red 100 short 0",
        "grey weights : red 100 short 0",
    ]
    found = score_answers(task, numbers, ["red red", "red red", "blue"])
    # red 2, 2, 0; short 2, 2, 3, halved by its factor: 0.8 * 2 - 0.6 * 1 = 1
    np.testing.assert_allclose(overall(task, found), [1.0, 2.0, 0.0])
    assert set(found) == {"red", "short", "directed"}
    chats = two_rewards(prompts=[[{"role": "user", "content": word}] for word in PROMPTS])
    directed = directed_task(chats, np.array([[0.8, 0.6]]))
    assert directed.texts(np.array([1])) == [
        ({"role": "user", "content": "green weights : red 80 short 60"},)
    ]


def test_an_answer_without_one_of_its_rewards_is_left_out():
    def some(prompts, answers):
        return reds(prompts, answers) | {"short": [None, 1.0]}

    task = directed_task(two_rewards(score=some), direction_grid(1, 45.0))
    found = score_answers(task, np.array([0, 1]), ["red", "red"])
    np.testing.assert_array_equal(found["directed"], [np.nan, 1.0])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"red": [1.0, 2.0]}, "the task gives no 'short'; it gives \\['red'\\]"),
        ({"red": [1.0, 2.0], "short": [1.0]}, "'short' must be 2 numbers, one for each answer"),
        ({"red": [[1.0, 2.0]], "short": [1.0, 2.0]}, r"'red' must be 2 numbers.* shape \(1, 2\)"),
    ],
)
def test_rewards_of_the_wrong_length_are_named(scores, message):
    with pytest.raises(UserError, match=message):
        directed_scores(scores, NAMES, np.ones((2, 2)))
    task = directed_task(two_rewards(score=lambda p, a: scores), direction_grid(2, 45.0))
    with pytest.raises(UserError, match="scoring answers to prompts 0, 1 failed"):
        score_answers(task, np.array([0, 1]), ["red", "red"])


def test_tasks_that_have_no_directions_are_named():
    grid = direction_grid(3, 45.0)
    with pytest.raises(UserError, match=r"directions have 2 entries, .* is of \['red'\]"):
        directed_task(two_rewards(objective="red"), grid)
    with pytest.raises(UserError, match="scaled by numbers > 0"):
        directed_task(two_rewards(objective={"red": 1.0, "short": -1.0}), grid)
    with pytest.raises(UserError, match="two directions are both written 'red 100 short 0'"):
        directed_task(two_rewards(), direction_grid(3, 0.1))
    with pytest.raises(ValueError, match="the length of directions must be"):
        directed_task(two_rewards(), 2 * grid)
    episodes = two_rewards(step=lambda *_: None, score=None, objective="return")
    with pytest.raises(UserError, match="draws single answers"):
        directed_task(episodes, grid)


def improve(lab, task, params, out, *, steps, rate):
    """Rejection sampling over the directions of a task: params and metrics."""
    rows = prompt_rows(task, batch_size=6, seed=0)
    fit = Fit(optax.adam(rate), steps=steps)

    def work(stage):
        given = (stage, lab, task, best_of(lab, samples=4), task_reward(lab, task), params)
        return {"params": online(*given, rows, fit, key=keyed(lab))}, {}

    with open_run(out, slug="directed", config={}) as run:
        return run_stage(run, "online", work).arrays["params"], read_metrics(out)


@pytest.mark.long
def test_rejection_sampling_learns_what_its_direction_asks_for(tmp_path):
    lab, shares = unigram_lab(), []
    start = lab.policy.init(None)
    for i, direction in enumerate(([1.0, 0.0], [-1.0, 0.0])):
        task = directed_task(two_rewards(), np.array([direction]))
        params, metrics = improve(lab, task, start, tmp_path / str(i), steps=8, rate=0.3)
        shares.append(np.exp(params)[RED] / np.exp(params).sum())
        assert metrics[0]["scores/best"] >= metrics[0]["scores/mean"]
        assert {"named/red", "named/short", "named/directed"} <= set(metrics[0])
    assert shares[0] > 0.4 > 0.1 > shares[1]


@pytest.mark.long
def test_a_transformer_is_trained_on_prompts_that_show_their_direction(tmp_path):
    lab = transformer_lab(prompt_length=8)
    task = directed_task(two_rewards(), direction_grid(3, 45.0))
    params, metrics = improve(
        lab, task, lab.policy.init(keyed(lab)), tmp_path / "run", steps=2, rate=0.01
    )
    assert all(np.isfinite(row["loss"]) for row in metrics)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
