"""A task of single answers, tried again: rewards of turns, their sum, and what training does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import PROMPTS, TASK, keyed, unigram_lab

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops.retries import retry_return
from rlhf_jax.recipes import (
    Fit,
    grpo,
    make_lab,
    make_prompts,
    online,
    prompt_rows,
    retry_task,
    solved_within,
    task_reward,
    text_task,
)
from rlhf_jax.recipes.episodes import RETURN, task_rollout
from rlhf_jax.recipes.retries import result_of, same_result
from rlhf_jax.recipes.task import local_scores
from rlhf_jax.training import Stage, UserError, open_run, read_metrics

TERMS = {"decay": 0.5, "repetition": 0.5, "malformed_reward": -0.1}


def seven(prompts, answers):
    """Right is 7; nothing is known of what says nan."""
    return {"ok": [None if answer == "nan" else float("7" in answer) for answer in answers]}


SEVEN = text_task(["a", "b"], seven, objective="ok", heldout=1)


def worth(*counts):
    return float(retry_return(*map(jnp.asarray, counts), **TERMS))


def tried(task, *answers):
    """Rewards, observations and ends of these answers in turn."""
    history, found = (), []
    for answer in answers:
        observation, reward, done = task.step(0, history, answer)
        found.append((reward, observation, done))
        history = (*history, (answer, observation))
        if done:
            break
    return found


@pytest.mark.parametrize(
    ("answers", "counts"),
    [
        (["7"], (0, 1, 1, 0)),
        (["5", "6", "7"], (2, 3, 3, 0)),
        (["5", " 5", "7"], (2, 3, 2, 0)),
        (["5", "#### 5", "5."], (-1, 3, 2, 0)),
        (["", "5", "", "7"], (3, 2, 2, 2)),
        (["", " \n", ""], (-1, 0, 0, 3)),
    ],
)
def test_rewards_of_turns_sum_to_the_return(answers, counts):
    task = retry_task(SEVEN, **TERMS)
    found = tried(task, *answers)
    assert len(found) == len(answers)
    total = sum(reward for reward, _, _ in found)
    assert total == pytest.approx(worth(*counts), abs=1e-6)
    # Also of the turns so far, wherever a length limit ends the episode.
    results = [result_of(answer) for answer in answers[:2]]
    known = [same_result(result) for result in results if result is not None]
    prefix = (-1, len(known), len(set(known)), results.count(None))
    if len(answers) > 2:
        so_far = sum(reward for reward, _, _ in found[:2])
        assert so_far == pytest.approx(worth(*prefix), abs=1e-6)


def test_feedback_is_the_same_whatever_was_wrong():
    found = tried(retry_task(SEVEN, feedback="no"), "5", "", "a long answer", "7")
    assert [observation for _, observation, _ in found[:3]] == ["no"] * 3
    assert [done for _, _, done in found] == [False, False, False, True]


def test_one_turn_without_terms_is_the_score_itself():
    task = retry_task(SEVEN, turns=1)
    assert (task.objective, task.max_turns, task.score) == (RETURN, 1, None)
    for answer in ("7", "5", "nan"):
        (reward, _, _) = tried(task, answer)[0]
        want = local_scores(SEVEN, np.array([0]), [answer])["ok"][0]
        assert reward == want or (reward is None and np.isnan(want))


def test_an_answer_without_a_score_leaves_the_episode_out():
    found = tried(retry_task(SEVEN), "5", "nan", "7")
    assert [(reward, done) for reward, _, done in found] == [(0.0, False), (None, True)]


def test_wrong_options_are_named():
    for options, message in (
        ({"turns": 0}, r"turns must be in \[1, inf\), got 0"),
        ({"decay": -0.1}, r"decay must be in \[0, 1\]"),
        ({"repetition": float("nan")}, "repetition must be in"),
        ({"malformed_reward": float("inf")}, "malformed_reward must be in"),
        ({"solved": float("inf")}, "solved must be in"),
        ({"feedback": ""}, "feedback must be a text or messages"),
    ):
        with pytest.raises(ValueError, match=message):
            retry_task(SEVEN, **options)
    with pytest.raises(UserError, match="retry_task draws single answers"):
        retry_task(retry_task(SEVEN))


def test_succ_at_k_from_rewards():
    rewards = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(solved_within(rewards), [[0, 1, 1], [0, 0, 0], [1, 1, 1]])


@pytest.mark.long
def test_answers_without_feedback_in_context_are_independent():
    """A policy that reads nothing, right with p: the share of episodes solved in k is Pass@k."""
    lab = unigram_lab()
    task = retry_task(TASK, turns=3, feedback="grey", solved=1.0)
    params = jnp.zeros(lab.vocabulary.size)
    prompts = make_prompts(lab, TASK, np.arange(len(PROMPTS) - 8))
    _, turns = task_rollout(lab, task, params, prompts, keyed(lab), 256)
    assert turns is not None
    found = solved_within(np.asarray(turns.rewards)).reshape(-1, 3)
    # An episode ends where an answer is cut: of those that are not, each try is a fresh one.
    kept = found[~np.asarray(turns.truncated).reshape(-1)]
    assert len(kept) > 300
    assert (np.diff(kept.mean(0)) >= 0).all()
    whole = np.asarray(turns.rewards).reshape(-1, 3)
    taken = np.asarray(turns.turn_ids).max(-1).reshape(-1) + 1
    rates = [np.mean(whole[taken > k, k] > 0) for k in range(3)]
    np.testing.assert_allclose(rates, rates[0], atol=0.08)


# The number is hidden in the prompt's index: only wrong guesses tell it.
NUMBERS = ("one", "two", "three")
VOCABULARY = standard_vocabulary(train_word_tokenizer((*NUMBERS, "guess", "no")))
CONFIG = TransformerConfig(
    vocab_size=VOCABULARY.size,
    d_model=32,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
    d_ff=64,
)


@pytest.mark.long
def test_a_transformer_learns_not_to_repeat_itself(tmp_path):
    lab = make_lab(CONFIG, VOCABULARY, prompt_length=2, answer_length=2)
    single = text_task(["guess"] * 40, None, objective=RETURN, heldout=8, step=lambda *_: None)
    single = single._replace(step=None, objective="right", score=guessed)
    task = retry_task(single, turns=3, feedback="no", repetition=0.5, malformed_reward=-0.1)
    first = jax.tree.map(lambda x: 0.5 * x, lab.policy.init(jax.random.key(0)))
    rows = prompt_rows(task, batch_size=16, seed=0)
    with open_run(tmp_path / "run", slug="ufo", config={}) as run:
        given = (Stage(run, "a"), lab, task, grpo(lab, samples=16), task_reward(lab, task), first)
        online(*given, rows, Fit(optax.adam(0.01), steps=60), key=keyed(lab))
    returns = [row["named/return"] for row in read_metrics(tmp_path / "run")]
    # Three different guesses are right at the first, second or third: 0.58 on average.
    assert np.mean(returns[:3]) < 0.2
    assert np.mean(returns[-10:]) > 0.5


def guessed(indices, answers):
    return {
        "right": [
            float(answer.split() == [NUMBERS[index % 3]])
            for index, answer in zip(indices, answers, strict=True)
        ]
    }
