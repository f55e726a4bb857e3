"""Two agents in one dialogue: what a turn is worth by hand, and tiny policies that learn it."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import PROMPTS, VOCABULARY, keyed, unigram_lab
from word_lab import transformer_lab

from rlhf_jax.recipes import Fit, WaltzRewards, prompt_rows, text_task, waltz, waltz_task
from rlhf_jax.recipes.episodes import Turns, task_rollout
from rlhf_jax.recipes.waltz import Feedback, read_feedback, waltz_batches, waltz_rewards
from rlhf_jax.training import open_run, read_metrics, run_stage

NAN = float("nan")
RED, GREEN = (VOCABULARY.tokenizer.token_to_id(word) for word in ("red", "green"))
WHOLE = {"reasoning": "", "unsafe": True, "overrefuse": False, "feedback": "no"}


def plain_task(**options):
    return text_task(PROMPTS, lambda prompts, answers: {}, objective="none", heldout=8)


def has_red(index, answer):
    """Red is unsafe, nothing at all is an over-refusal."""
    return "red" in answer.split(), not answer.split()


def says_green(text):
    """Green is a flag; an empty feedback cannot be read."""
    return Feedback("green" in text.split(), False, bool(text.split()))


def words_task(judge=has_red, **options):
    return waltz_task(plain_task(), judge, read=says_green, ask="grey", revise="blue", **options)


def test_feedback_is_read_or_not():
    assert read_feedback(json.dumps(WHOLE)) == Feedback(True, False)
    for broken in (
        "",
        "unsafe",
        "[true]",
        "3",
        "[" * 100_000,
        json.dumps(WHOLE | {"unsafe": "yes"}),
        json.dumps(WHOLE | {"unsafe": 1}),
        json.dumps({k: v for k, v in WHOLE.items() if k != "feedback"}),
    ):
        assert read_feedback(broken) == Feedback(False, False, False)


def test_the_dialogue_ends_without_a_flag():
    step = words_task().step
    assert step(0, (), "red") == ("grey", 1.0, False)
    assert step(0, (), "") == ("grey", 2.0, False)
    drafted = (("red", "grey"),)
    assert step(0, drafted, "green") == ("blue", 1, False)
    assert step(0, drafted, "blue")[1:] == (0, True)
    assert step(0, drafted, "")[1:] == (4, True)  # an empty turn: unreadable, no flag
    flagged = (*drafted, ("green", "blue"))
    assert step(0, flagged, "blue")[1:] == (0.0, True)
    longer = words_task(rounds=2)
    assert longer.max_turns == 5
    assert longer.step(0, flagged, "red") == ("grey", 1.0, False)
    assert words_task(lambda index, answer: None).step(0, (), "red") == (None, None, True)
    with pytest.raises(ValueError, match=r"rounds must be in \[1, inf\)"):
        words_task(rounds=0)


OPTIONS = WaltzRewards(improvement_weight=2.0, label_weight=0.5, format_weight=0.25)


def test_rewards_by_hand():
    """Flagged rightly and mended; flagged wrongly and spoilt; fine and said so; unreadable; not
    judged."""
    codes = jnp.array([[1, 1, 0], [0, 2, 1], [0, 0, 0], [1, 4, 0], [NAN, 0, 0]])
    taken = jnp.array([[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0]], bool)
    found = waltz_rewards(codes, taken, OPTIONS)
    np.testing.assert_array_equal(found.right[:, 0], [True, False, True, False, False])
    np.testing.assert_array_equal(found.improvements[:4, 0], [1, -1, 0, 0])
    np.testing.assert_array_equal(found.rewards[:, 0], [0, 1, 1, 0, NAN])
    np.testing.assert_array_equal(found.rewards[:2, 2], [1, 0])
    # 2 + 0.5 + 0.25; 0.25; 0.5 + 0.25; nothing
    np.testing.assert_allclose(found.rewards[:4, 1], [2.75, 0.25, 0.75, 0.0])
    # Without the last but one, an unsafe draft weighs 3 / (2 * 1) and two fine ones 3 / (2 * 2).
    evened = waltz_rewards(codes[:3], taken[:3], replace(OPTIONS, balanced=True))
    np.testing.assert_allclose(evened.rewards[:, 1], [3.0, 0.25, 0.625])
    unjudged = waltz_rewards(jnp.array([[1, 1, NAN]]), jnp.ones((1, 3), bool), OPTIONS)
    assert jnp.isnan(unjudged.rewards[0, 1:]).all()
    with pytest.raises(ValueError, match=r"beta must be in \[0, inf\)"):
        WaltzRewards(beta=-1.0)


def test_rounds_telescope():
    codes = jnp.array([[1.0, 1, 0, 1, 1, 1, 0]])
    found = waltz_rewards(codes, jnp.ones((1, 7), bool), OPTIONS)
    np.testing.assert_array_equal(found.improvements, [[1, -1, 1]])
    assert float(found.improvements.sum()) == float(found.qualities[0, -1] - found.qualities[0, 0])


def start_of(lab, word, score=1.5):
    """A policy that often says a word."""
    return lab.policy.init(None).at[word].set(score)


def brief(lab, word):
    """A policy that often says a word and often stops: a turn that does not ends the episode."""
    return start_of(lab, word, 2.5).at[VOCABULARY.stop_ids[0]].set(2.5)


@pytest.mark.long
def test_samples_are_those_of_their_own_agent():
    lab = unigram_lab()
    talks, judges = brief(lab, RED), brief(lab, GREEN)
    prompts = make(lab)
    task = words_task()
    rollout, turns = task_rollout(lab, task, (talks, judges), prompts, keyed(lab), 8, agents=2)
    assert isinstance(turns, Turns)
    (spoke, judged), metrics = waltz_batches(lab, OPTIONS, (talks, judges), rollout, turns)
    mask = rollout.trajectory.mask
    whole = spoke.answers.mask.any(0).astype(int) + judged.answers.mask.any(0)
    np.testing.assert_array_equal(whole, mask)
    # Sampled by the agent who spoke: the log-probs are those of its own policy.
    for batch, params in ((spoke, talks), (judged, judges)):
        logps = jax.nn.log_softmax(params)[batch.answers.actions]
        kept = batch.answers.mask
        np.testing.assert_allclose(
            jnp.where(kept, batch.columns["old_token_logps"], 0.0),
            jnp.where(kept, logps, 0.0),
            atol=1e-5,
        )
    # 0.78 of the drafts end, and 0.34 of the feedback has green and ends.
    assert 0.1 < float(metrics["feedback/triggered"]) < 0.5
    assert float(metrics["paid/worse"]) == 0.0
    with pytest.raises(ValueError, match="agents take turns in a task with a step"):
        task_rollout(lab, plain_task(), (talks, judges), prompts, keyed(lab), 1, agents=2)


def make(lab):
    from rlhf_jax.recipes.lab import make_prompts

    return make_prompts(lab, words_task(), np.arange(6))


def train(lab, out, params, *, frozen, options, steps=12, rate=0.3, task=None):
    task = task or words_task()
    rows, fit = prompt_rows(task, batch_size=8, seed=0), Fit(optax.adam(rate), steps=steps)

    def work(stage):
        given = (stage, lab, task, options, params, rows, fit)
        return waltz(*given, key=keyed(lab), samples=4, frozen=frozen), {}

    with open_run(out, slug="waltz", config={}) as run:
        return run_stage(run, "waltz", work, like=params).arrays, read_metrics(out)


@pytest.mark.long
def test_both_agents_learn_and_a_frozen_one_does_not(tmp_path):
    """Red drafts are unsafe: one agent drops red, the other learns to say green while they last."""
    lab = unigram_lab()
    params = start_of(lab, RED), lab.policy.init(None)
    options = WaltzRewards(label_weight=1.0, beta=0.0)
    first, metrics = train(lab, tmp_path / "first", params, frozen=True, options=options)
    np.testing.assert_array_equal(first[0], params[0])
    says = [float(jax.nn.softmax(each[1])[GREEN]) for each in (params, first)]
    assert says[1] > says[0] + 0.1
    rows = [row for row in metrics if row["stage"] == "waltz"]
    assert {"1/loss", "quality/draft", "feedback/triggered", "paid/worse"} <= set(rows[0])
    assert "0/loss" not in rows[0]
    assert rows[-1]["feedback/right"] > rows[0]["feedback/right"]
    both, metrics = train(lab, tmp_path / "both", first, frozen=False, options=options)
    reds = [float(jax.nn.softmax(each[0])[RED]) for each in (first, both)]
    assert reds[1] < reds[0] - 0.1
    rows = [row for row in metrics if row["stage"] == "waltz"]
    assert rows[-1]["quality/draft"] > rows[0]["quality/draft"]


@pytest.mark.long
def test_two_transformers_are_trained_together(tmp_path):
    lab = transformer_lab(prompt_length=8)
    start = lab.policy.init(keyed(lab))
    params, metrics = train(
        lab,
        tmp_path / "run",
        (start, start),
        frozen=False,
        options=WaltzRewards(label_weight=1.0),
        steps=2,
        rate=0.01,
    )
    rows = [row for row in metrics if row["stage"] == "waltz"]
    assert all(np.isfinite([row["0/loss"], row["1/loss"]]).all() for row in rows)
    moved = [
        max(
            float(jnp.abs(a - b).max())
            for a, b in zip(*map(jax.tree.leaves, (start, x)), strict=True)
        )
        for x in params
    ]
    assert min(moved) > 0.001
