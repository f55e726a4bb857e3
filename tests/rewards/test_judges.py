"""Judges: what they answer, and what is said of one that fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.games import bradley_terry_game, rock_paper_scissors
from rlhf_jax.policies.tabular import tabular_reward
from rlhf_jax.rewards import (
    JudgeError,
    checked_judge,
    judge_matrix,
    preference_judge,
    reward_judge,
    text_judge,
)
from rlhf_jax.types import PreferenceFn, Trajectory


def answers(actions):
    """One-step answers in state 0."""
    actions = jnp.asarray(actions)[..., None]
    return Trajectory(jnp.zeros_like(actions), actions, jnp.ones_like(actions, bool))


INDICES = np.array([30, 7, 12])
PAIR = answers([0, 1, 2]), answers([1, 2, 0])
ROCK = np.asarray(rock_paper_scissors(0.9))


def rock_judge(indices, first, second):
    return ROCK[np.asarray(first.actions)[..., 0], np.asarray(second.actions)[..., 0]]


def saying(prefs):
    return checked_judge(lambda indices, first, second: prefs)


def test_a_good_judge_is_passed_on_in_the_default_float_type():
    prefs = checked_judge(rock_judge)(INDICES, *PAIR)
    assert prefs.dtype == jnp.float32
    np.testing.assert_allclose(prefs, [0.9, 0.9, 0.9])
    np.testing.assert_array_equal(saying([0, 1, 1])(INDICES, *PAIR), [0.0, 1.0, 1.0])
    with jax.enable_x64(True):
        assert saying([0.1, 1, 1])(INDICES, *PAIR)[0] == 0.1


def test_rounding_beyond_one_is_no_error():
    prefs = saying([1.0000001, -1e-7, 0.5])(INDICES, *PAIR)
    np.testing.assert_array_equal(prefs, [1.0, 0.0, 0.5])


@pytest.mark.parametrize(
    ("prefs", "message"),
    [
        ([0.5, np.nan, 2.0], r"returned nan for prompt 7 \(row 1 of 3\); .* number in \[0, 1\]"),
        ([0.5, 0.5, 1.5], r"returned 1\.5 for prompt 12 \(row 2 of 3\)"),
        ([-0.1, 0.5, np.inf], r"returned -0\.1 for prompt 30 \(row 0 of 3\)"),
        ([0.5, 0.5], r"prompts 30, 7, 12, returned shape \(2,\); expected \(3,\)"),
        (0.5, r"prompts 30, 7, 12, returned shape \(\); expected \(3,\)"),
        (["A", "B", "A"], r"failed, asked about prompts 30, 7, 12: ValueError: could not convert"),
    ],
)
def test_wrong_answers_name_their_prompt(prefs, message):
    with pytest.raises(JudgeError, match=message) as caught:
        saying(prefs)(INDICES, *PAIR)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_a_failing_judge_names_what_it_was_asked():
    def broken(indices, first, second):
        raise ConnectionError("no answer\nafter three tries")

    with pytest.raises(JudgeError) as caught:
        checked_judge(broken)(np.array([5, 5]), *PAIR)
    assert str(caught.value) == (
        "the judge failed, asked about prompt 5: ConnectionError: no answer"
    )
    assert isinstance(caught.value.__cause__, ConnectionError)
    with pytest.raises(JudgeError, match=r"prompts 0, 1, 2, 3, 4, 5, 6, 7, \.\.\. \(20 prompts\)"):
        checked_judge(broken)(np.arange(20), *PAIR)


def test_being_stopped_is_no_failure():
    def stopped(indices, first, second):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checked_judge(stopped)(INDICES, *PAIR)


def test_reward_judge_is_bradley_terry():
    scores = jnp.array([[0.3, -1.0, 2.0]])
    judge = checked_judge(reward_judge(tabular_reward(1, 3), scores, beta=2.0))
    game = bradley_terry_game(2.0 * scores[0])
    np.testing.assert_allclose(judge(INDICES, *PAIR), game[[0, 1, 2], [1, 2, 0]], rtol=1e-5)
    np.testing.assert_allclose(
        judge_matrix(judge, np.array([0]), answers([[0, 1, 2]]))[0], game, rtol=1e-5
    )


def test_preference_judge_is_the_sigmoid_of_the_logits():
    def logits(params, first, second):
        return params * (first.actions - second.actions)[..., 0]

    judge = preference_judge(PreferenceFn(jax.random.normal, logits), jnp.float32(1.5))
    want = 1 / (1 + np.exp(-1.5 * np.array([-1.0, -1.0, 2.0])))
    np.testing.assert_allclose(judge(INDICES, *PAIR), want, rtol=1e-6)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_model_without_a_finite_score_is_no_judge(bad):
    """sigmoid(inf - 1) = 1 would be a sure win."""
    by_score = reward_judge(tabular_reward(1, 3), jnp.array([[0.3, bad, 2.0]]))
    by_logit = preference_judge(
        PreferenceFn(jax.random.normal, lambda params, first, second: params), jnp.full(3, bad)
    )
    for judge in (by_score, by_logit):
        with pytest.raises(JudgeError, match="returned nan for prompt 30"):
            checked_judge(judge)(INDICES, *PAIR)


def named(trajectory):
    return [("ant", "bee", "cat")[int(a)] for a in trajectory.actions[:, 0]]


def asking(compare):
    return checked_judge(
        text_judge(
            compare,
            prompt_texts=lambda indices: [f"prompt {i}" for i in indices],
            answer_texts=named,
        )
    )


def test_text_judge_asks_one_comparison_at_a_time_and_not_about_equal_texts():
    seen = []

    def compare(*texts):
        seen.append(texts)
        return len(seen) == 1

    prefs = asking(compare)(INDICES, answers([0, 1, 2]), answers([1, 1, 0]))
    np.testing.assert_array_equal(prefs, [1.0, 0.5, 0.0])
    assert seen == [("prompt 30", "ant", "bee"), ("prompt 12", "cat", "ant")]


def test_a_text_judge_that_fails_names_the_one_prompt():
    def compare(prompt, first, second):
        return {"prompt 30": 0.4}[prompt]

    with pytest.raises(JudgeError, match="two answers to prompt 7: KeyError") as caught:
        asking(compare)(INDICES, *PAIR)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(JudgeError, match=r"returned 7\.0 for prompt 30"):
        asking(lambda *texts: 7.0)(INDICES, *PAIR)
    with pytest.raises(JudgeError, match="prompt 30: TypeError"):
        asking(lambda *texts: None)(INDICES, *PAIR)


def counting(sizes):
    def judge(indices, first, second):
        sizes.append(len(indices))
        assert first.actions.shape == (len(indices), 1)
        assert np.all(np.asarray(indices) == np.asarray(first.inputs)[:, 0])
        return rock_judge(indices, first, second)

    return judge


@pytest.mark.parametrize(("chunk", "calls"), [(None, [12]), (5, [5, 5, 5]), (20, [20]), (12, [12])])
def test_matrix_asks_each_pair_once_and_completes_it(chunk, calls):
    choices = np.array([[0, 1, 2, 0], [2, 2, 1, 0]])
    batch = answers(choices)
    numbers = np.array([4, 9])
    batch = Trajectory(
        np.broadcast_to(numbers[:, None, None], (2, 4, 1)), batch.actions, batch.mask
    )
    sizes = []
    prefs = judge_matrix(counting(sizes), numbers, batch, chunk=chunk)
    assert sizes == calls
    np.testing.assert_allclose(prefs, [ROCK[np.ix_(row, row)] for row in choices], atol=1e-6)
    np.testing.assert_array_equal(prefs + jnp.swapaxes(prefs, 1, 2), np.ones((2, 4, 4)))


def test_matrix_of_one_answer_asks_nobody():
    sizes = []
    prefs = judge_matrix(counting(sizes), np.array([4, 9]), answers([[0], [1]]))
    np.testing.assert_array_equal(prefs, np.full((2, 1, 1), 0.5))
    assert sizes == []


def test_matrix_checks_its_judge_and_its_chunk():
    batch = answers([[0, 1], [1, 2]])
    with pytest.raises(JudgeError, match="returned nan for prompt 8"):
        judge_matrix(lambda i, a, b: np.where(i == 8, np.nan, 0.5), np.array([3, 8]), batch)
    with pytest.raises(ValueError, match="chunk must be at least 1, got 0"):
        judge_matrix(rock_judge, np.array([3, 8]), batch, chunk=0)
