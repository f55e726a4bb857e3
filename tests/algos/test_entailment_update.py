"""Entailment heads: reductions, principles chosen by number, bad batches, a tiny transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import sft
from rlhf_jax.algos.entailment import (
    EntailmentBatch,
    make_objective,
    make_update,
    make_written_objective,
    make_written_update,
    principle_reward,
)
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.reward_ensemble import separate_trunks
from rlhf_jax.losses.feedback import binary_loss
from rlhf_jax.models import TransformerConfig, make_reward_model
from rlhf_jax.ops.ensembles import worst_case_scores
from rlhf_jax.policies.language import language_reward, language_trajectory
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.policies.tabular import tabular_policy, tabular_reward
from rlhf_jax.types import RewardFn, Trajectory

RNG = np.random.default_rng(0)
SGD = optax.sgd(1.0)
FEATURES, PRINCIPLES, ROWS = 3, 2, 6
LINEAR = linear_reward(FEATURES)
HEADS = separate_trunks(LINEAR, members=PRINCIPLES)


def answers(rows=ROWS):
    x = jnp.asarray(RNG.normal(size=(rows, 1, FEATURES)), jnp.float32)
    return Trajectory(x, jnp.zeros((rows, 1), int), jnp.ones((rows, 1), bool))


LABELS = jnp.array([True, False, True, True, False, True])
NUMBERS = jnp.array([0, 1, 1, 0, 0, 1])
BATCH = EntailmentBatch(answers(), LABELS, NUMBERS)
PARAMS = jnp.asarray(RNG.normal(size=(PRINCIPLES, FEATURES)), jnp.float32)


def value(mean):
    return mean.total / mean.weight


def test_each_head_is_trained_on_the_answers_of_its_principle():
    """One step of gradient descent by hand: w_c -= mean over all rows of (sigmoid(r) - b) x."""
    state, metrics = make_update(HEADS, SGD, by_head=True)(init_state(PARAMS, SGD), BATCH)
    x, expected = np.asarray(BATCH.answers.inputs)[:, 0], np.array(PARAMS)
    for row in range(ROWS):
        head = int(NUMBERS[row])
        slope = 1 / (1 + np.exp(-x[row] @ np.asarray(PARAMS)[head])) - float(LABELS[row])
        expected[head] -= slope * x[row] / ROWS
    np.testing.assert_allclose(state.params, expected, rtol=1e-5)
    scores = np.sum(x * np.asarray(PARAMS)[NUMBERS], -1)
    assert value(metrics["scores/accuracy"]) == pytest.approx(np.mean((scores > 0) == LABELS))
    signed = np.where(LABELS, scores, -scores)
    assert value(metrics["scores/margin"]) == pytest.approx(signed.mean(), rel=1e-5)


def test_one_principle_throughout_is_binary_feedback():
    batch = EntailmentBatch(BATCH.answers, LABELS, jnp.zeros(ROWS, int))
    loss, _ = make_objective(HEADS, by_head=True)(PARAMS, batch)
    alone = EntailmentBatch(BATCH.answers, LABELS)
    np.testing.assert_allclose(loss.total, make_objective(LINEAR)(PARAMS[0], alone)[0].total)
    scores = LINEAR.scores(PARAMS[0], BATCH.answers)
    np.testing.assert_allclose(loss.total, binary_loss(scores, LABELS).sum(), rtol=1e-6)


def test_yes_on_the_chosen_and_no_on_the_rejected_answer_is_cross_entropy_of_a_pair():
    """L = softplus(-r_w) + softplus(r_l), and a constant added to both scores changes it."""
    table = tabular_reward(1, 2)
    pair = Trajectory(jnp.zeros((2, 1), int), jnp.array([[0], [1]]), jnp.ones((2, 1), bool))
    objective, params = make_objective(table), jnp.array([[1.5, -0.5]])
    batch = EntailmentBatch(pair, jnp.array([True, False]))
    # log(1 + e^-1.5) + log(1 + e^-0.5)
    np.testing.assert_allclose(objective(params, batch)[0].total, 0.2014133 + 0.4740770, 1e-6)
    assert objective(params + 3.0, batch)[0].total > 2.0


def test_labels_of_a_verifier_are_recovered_in_a_table():
    """The optimum is logit P(right): with three right of four, log 3."""
    table = tabular_reward(1, 1)
    zeros = jnp.zeros((4, 1), int)
    batch = EntailmentBatch(
        Trajectory(zeros, zeros, jnp.ones((4, 1), bool)), jnp.array([True, True, True, False])
    )
    state, update = init_state(jnp.zeros((1, 1)), SGD), jax.jit(make_update(table, SGD))
    for _ in range(200):
        state, _ = update(state, batch)
    np.testing.assert_allclose(state.params, np.log(3.0), rtol=1e-5)


def test_principles_are_chosen_when_the_reward_is_used():
    every = HEADS.scores(PARAMS, BATCH.answers)
    one = principle_reward(HEADS, [1]).scores(PARAMS, BATCH.answers)
    np.testing.assert_allclose(one, every[1], rtol=1e-6)
    mean = principle_reward(HEADS, [0, 1]).scores(PARAMS, BATCH.answers)
    np.testing.assert_allclose(mean, every.mean(0), rtol=1e-5)
    both = principle_reward(HEADS, [0, 1], combine=worst_case_scores)
    np.testing.assert_allclose(both.scores(PARAMS, BATCH.answers), every.min(0), rtol=1e-6)
    with pytest.raises(ValueError, match=r"there are 2 principles, from 0; got \[2\]"):
        principle_reward(HEADS, [0, 2]).scores(PARAMS, BATCH.answers)
    with pytest.raises(ValueError, match="at least one principle"):
        principle_reward(HEADS, [])


def test_a_batch_without_its_principles_is_named():
    alone = EntailmentBatch(BATCH.answers, LABELS)
    with pytest.raises(ValueError, match="by_head=True the batch needs principles"):
        make_objective(HEADS, by_head=True)(PARAMS, alone)
    with pytest.raises(ValueError, match="by_head=False the batch has principles"):
        make_objective(LINEAR)(PARAMS[0], BATCH)


def test_labels_that_are_not_yes_or_no_are_refused():
    batch = EntailmentBatch(BATCH.answers, jnp.array([0, 1, 2, 0, 1, 1]), NUMBERS)
    with pytest.raises(Exception, match=r"labels"):
        make_objective(HEADS, by_head=True)(PARAMS, batch)


@pytest.mark.long
def test_a_transformer_reads_the_principle_in_the_prompt():
    """Answers 5 and 6; principle 3 asks for a 5, principle 4 for a 6."""
    model = make_reward_model(
        TransformerConfig(
            vocab_size=7, d_model=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=8
        )
    )
    reward, optimizer = language_reward(model), optax.adam(0.03)
    prompts, actions = jnp.array([[1, 3], [1, 3], [1, 4], [1, 4]]), jnp.array([[5], [6], [5], [6]])
    trajectory = language_trajectory(
        prompts, jnp.ones_like(prompts, bool), actions, jnp.ones((4, 1), bool)
    )
    batch = EntailmentBatch(trajectory, jnp.array([True, False, False, True]))
    update = jax.jit(make_update(reward, optimizer))
    state = init_state(reward.init(jax.random.key(0)), optimizer)
    for _ in range(150):
        state, metrics = update(state, batch)
    assert value(metrics["scores/accuracy"]) == 1.0


# ---- Verdicts that a policy writes: one state for each question, four words.

YES, NO = (2,), (3,)
TABLE = jnp.asarray(RNG.normal(size=(ROWS, 4)), jnp.float32)


def table_logits(params, answers):
    return params[answers.inputs[..., 0]]


def verdicts(weights=None):
    words = jnp.where(LABELS, YES[0], NO[0])[:, None]
    rows = Trajectory(jnp.arange(ROWS)[:, None], words, jnp.ones((ROWS, 1), bool))
    return EntailmentBatch(rows, LABELS, weights=weights)


def test_a_written_verdict_costs_its_log_probability():
    """One question, logits log 1, log 2, log 4, log 3: P(yes) = 4 / 10, P(yes or no) = 7 / 10."""
    params = jnp.log(jnp.array([[1.0, 2.0, 4.0, 3.0]]))
    rows = Trajectory(jnp.zeros((1, 1), int), jnp.zeros((1, 1), int), jnp.ones((1, 1), bool))
    batch = EntailmentBatch(rows, jnp.array([True]))
    loss, found = make_written_objective(table_logits, yes=YES, no=NO)(params, batch)
    np.testing.assert_allclose(loss.total, -np.log(0.4), rtol=1e-6)
    np.testing.assert_allclose(found["verdicts/mass"].total, 0.7, rtol=1e-6)
    np.testing.assert_allclose(found["scores/margin"].total, np.log(4 / 3), rtol=1e-5)
    assert found["scores/accuracy"].total == 1.0


def test_with_one_word_for_each_verdict_it_is_supervised_fine_tuning_on_that_word():
    update = make_written_update(table_logits, SGD, yes=YES, no=NO)
    state, metrics = update(init_state(TABLE, SGD), verdicts())
    policy = sft.make_update(tabular_policy(ROWS, 4), SGD)
    other, known = policy(init_state(TABLE, SGD), verdicts().answers)
    np.testing.assert_allclose(state.params, other.params, rtol=1e-5)
    np.testing.assert_allclose(value(metrics["loss"]), value(known["loss"]), rtol=1e-6)


def test_with_all_mass_on_the_two_words_it_is_a_head():
    certain = TABLE.at[:, :2].set(-50.0)
    loss, found = make_written_objective(table_logits, yes=YES, no=NO)(certain, verdicts())

    def difference(params, answers):
        logits = table_logits(params, answers)
        return logits[..., YES[0]] - logits[..., NO[0]]

    head, same = make_objective(RewardFn(lambda key: None, difference))(certain, verdicts())
    np.testing.assert_allclose(loss.total, head.total, rtol=1e-6)
    np.testing.assert_allclose(value(found["verdicts/mass"]), 1.0, rtol=1e-6)
    for name in same:
        np.testing.assert_allclose(found[name].total, same[name].total, rtol=1e-5)


def test_questions_of_weight_zero_never_matter():
    objective = make_written_objective(table_logits, yes=YES, no=NO)
    weights = jnp.array([1.0, 0.0, 2.0, 1.0, 0.0, 1.0])
    spoiled = jnp.where((weights > 0)[:, None], TABLE, jnp.nan)
    slopes, found = (
        jax.grad(lambda x: objective(x, verdicts(weights))[0].total)(table)
        for table in (TABLE, spoiled)
    )
    np.testing.assert_array_equal(slopes, found)
    np.testing.assert_array_equal(slopes[1], 0.0)
