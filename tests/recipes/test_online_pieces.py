"""Pieces of the online recipe: from rollout to batch, micro-batches, the table, wrong options."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import RED, TASK, keyed, rollout_of, unigram_lab

from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.recipes import Fit, grpo, online, ppo, prompt_rows, read_completions, task_reward
from rlhf_jax.recipes.completions import CompletionRow, make_append, make_table
from rlhf_jax.recipes.online_method import (
    answer_metrics,
    make_prepare,
    make_step,
    sampler_metrics,
)
from rlhf_jax.recipes.rewards import known_reward
from rlhf_jax.recipes.rounds import Drawn
from rlhf_jax.training import UserError
from rlhf_jax.types import Prompts, ValueFn

LAB = unigram_lab()
START = LAB.policy.init(None)
METHOD = grpo(LAB, samples=2)
ANSWERS = np.array([[[RED, RED, RED], [RED, 5, 6]], [[5, 5, 5], [6, 6, RED]]])
SCORES = jnp.array([[3.0, 1.0], [jnp.nan, 1.0]])
NUMBERS = prompt_rows(TASK, batch_size=2, seed=0)


def prepared():
    """The batch of METHOD, its metrics and what is kept."""
    prepare = make_prepare(LAB, METHOD, known_reward(), keep_scores=True)
    # The reference gives each token log 2 less.
    rollout = rollout_of(LAB, ANSWERS)
    rollout = rollout._replace(token_logps=rollout.token_logps + jnp.log(2.0))
    return prepare(START, START, (), SCORES, rollout, 0.0)


@pytest.mark.long
def test_every_method_logs_scores_kl_and_lengths():
    batch, metrics, more = prepared()
    assert batch.weights.tolist() == [1, 1, 0, 1]
    np.testing.assert_array_equal(more["scores"], SCORES)
    assert float(metrics["scores/mean"]) == pytest.approx(5 / 3)
    assert float(metrics["scores/finite"]) == 0.75
    assert float(metrics["kl/ref"]) == pytest.approx(3 * np.log(2.0))
    assert float(metrics["answers/length"]) == 3.0


@pytest.mark.long
def test_the_gap_of_sampler_and_trainer_is_the_largest_of_a_token():
    """The sampler says log 2 more of each token than the trainer, the reference log 2 less."""
    rollout = rollout_of(LAB, ANSWERS)
    found = rollout._replace(token_logps=rollout.token_logps + jnp.log(2.0))
    metrics = sampler_metrics(LAB, START, found)
    assert float(metrics["sampler/gap"]) == pytest.approx(np.log(2.0), rel=1e-5)
    assert int(metrics["sampler/tokens"]) == 12
    means = answer_metrics(found, rollout.token_logps - jnp.log(2.0))
    # Three tokens of log 2 + log 2
    assert float(means["kl/ref"]) == pytest.approx(6 * np.log(2.0), rel=1e-5)


def test_rows_of_the_table_carry_their_step(stage):
    append = make_append(stage, every=2)
    append(0, [CompletionRow(3, "p", "a", 0.5, {})])
    append(2, [CompletionRow(4, "q", "b", None, {"comparisons": 1.0})])
    table = read_completions(stage.run.out / "stages" / stage.name)
    assert [(row["step"], row["score"]) for row in table] == [(1, 0.5), (3, None)]


@pytest.mark.long
def test_training_reads_the_ids_that_were_sampled():
    """No text is made of an answer and read again: [5, 5, 5] stays three tokens."""
    batch, _, _ = prepared()
    np.testing.assert_array_equal(batch.answers.actions, ANSWERS.reshape(4, 3))
    rollout = rollout_of(LAB, ANSWERS)
    np.testing.assert_array_equal(
        batch.answers.inputs.ids, rollout.trajectory.inputs.ids.reshape(4, -1)
    )


@pytest.mark.long
def test_micro_batches_take_the_step_of_the_whole_batch():
    batch, _, _ = prepared()
    optimizer, found = optax.sgd(1.0), []
    for parts in (1, 2):
        step = jax.jit(make_step(LAB, METHOD, optimizer, parts=parts))
        state, _ = step(init_state(START, optimizer), (batch, ()), keyed(LAB))
        found.append(np.asarray(state.params))
    assert np.abs(found[0] - START).max() > 0.01
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)


def test_a_loss_that_is_no_sum_over_rows_refuses_micro_batches():
    value = ValueFn(lambda key: START, lambda params, inputs: params)
    optimizer, lab = optax.sgd(1.0), LAB._replace(value=value, axes=LAB.axes | {"value": ()})
    with pytest.raises(ValueError, match=r"Fit\.parts must be 1 with a mix"):
        make_step(LAB, METHOD, optimizer, mix_weight=0.5, parts=2)
    with pytest.raises(ValueError, match=r"Fit\.parts must be 1 with whitened advantages"):
        make_step(lab, ppo(lab, PPOConfig(), START), optimizer, parts=2)
    assert ppo(lab, PPOConfig(whiten_advantages=False), START).divisible


def test_a_table_has_a_row_for_each_answer(stage):
    write = make_table(stage, LAB, TASK, every=1)
    drawn = Drawn(
        Prompts((), np.array([4, 4])), rollout_of(LAB, ANSWERS), (), {"red": np.asarray(SCORES)}
    )
    write(0, drawn, SCORES)
    rows = read_completions(stage.run.out / "stages" / stage.name)
    assert [row["score"] for row in rows] == [3.0, 1.0, None, 1.0]
    assert rows[0] == {
        "step": 1,
        "prompt_index": 4,
        "prompt": TASK.texts(np.array([4]))[0],
        "answer": "red red red",
        "score": 3.0,
        "scores": {"red": 3.0},
    }


def test_a_split_that_the_task_does_not_have_is_named():
    with pytest.raises(UserError, match=r"one of \['heldout', 'train'\], got 'test'"):
        prompt_rows(TASK, batch_size=2, seed=0, split="test")


def test_a_negative_number_of_steps_between_tables_is_refused(stage):
    args = (LAB, TASK, METHOD, task_reward(LAB, TASK), START, NUMBERS, Fit(optax.sgd(1.0), 1))
    with pytest.raises(ValueError, match="completions_every must be in"):
        online(stage, *args, key=keyed(LAB), completions_every=-1)
