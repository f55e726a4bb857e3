"""Methods that learn selected answers: what they keep, by hand, and what they count."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unigram_lab import VOCABULARY, rollout_of, unigram_lab

from rlhf_jax.ops.kl import exact_kl, forward_kl
from rlhf_jax.ops.selection import best_answers
from rlhf_jax.recipes import Scored, best_of, superhf, top_of_batch
from rlhf_jax.recipes.methods.selection import ranking_scores, tie_metrics
from rlhf_jax.types import Trajectory

LAB = unigram_lab()
START = LAB.policy.init(None)
MOVED = START + 0.3 * jnp.arange(8.0)
# Two prompts, three answers of two tokens.
ANSWERS = np.array([[[4, 5], [5, 6], [7, 7]], [[4, 4], [6, 5], [5, 5]]])


def scored(scores, answers=ANSWERS, gap=0.0, beta=0.0):
    """`gap` is log pi - log pi_ref of each token."""
    rollout = rollout_of(LAB, answers)
    return Scored(rollout, jnp.asarray(scores), rollout.token_logps - gap, beta)


def test_best_of_takes_the_best_scored_answer():
    method = best_of(LAB, samples=3)
    given = scored([[1.0, 6.0, jnp.nan], [jnp.nan, jnp.nan, jnp.nan]])
    batch, metrics = jax.jit(method.prepare)(START, given)
    assert batch.answers.actions[0].tolist() == [5, 6]
    assert batch.weights.tolist() == [1, 0]
    assert float(metrics["scores/best"]) == 6.0
    assert float(metrics["groups/kept"]) == 0.5
    loss, _ = method.objective(START, batch)
    assert float(loss) == pytest.approx(np.log(8.0))  # nats per token of a uniform policy


def test_ties_are_counted_and_go_to_the_earliest_answer():
    batch, metrics = best_of(LAB, samples=3).prepare(START, scored([[2.0] * 3, [0.0, 1.0, 1.0]]))
    assert batch.answers.actions.tolist() == [[4, 5], [6, 5]]
    assert float(metrics["groups/tied"]) == 1.0
    assert float(metrics["groups/equal"]) == 0.5


NOTHING = {"best_of": best_of, "top_of_batch": top_of_batch, "superhf": partial(superhf, beta=0.5)}


@pytest.mark.parametrize("name", NOTHING)
def test_a_step_with_nothing_to_learn_has_loss_and_gradient_zero(name):
    """All answers are filtered out."""
    method = NOTHING[name](LAB, samples=3)
    answers = ANSWERS.reshape(6, 1, 2) if name == "top_of_batch" else ANSWERS
    given = scored(np.full(answers.shape[:2], np.nan, np.float32), answers)
    given = given._replace(reference=lambda x: LAB.policy.logits(MOVED, x.inputs))
    batch, metrics = method.prepare(START, given)
    assert float(metrics["groups/kept"]) == float(metrics["scores/best"]) == 0.0
    assert float(method.objective(START, batch)[0].value()) == 0.0
    slope = jax.grad(lambda params: method.objective(params, batch)[0].value())(START)
    np.testing.assert_array_equal(slope, 0.0)


def test_the_ranking_is_penalised_by_the_log_ratio():
    # Answer 1 of prompt 0 has log pi - log pi_ref = 2: 6 - 2 * 2 < 3.
    gap = jnp.zeros(ANSWERS.shape).at[0, 1].set(1.0)
    scores = [[3.0, 6.0, 0.0], [1.0, 0.0, 0.0]]
    plain, penalised = best_of(LAB, samples=3), best_of(LAB, samples=3, kl=2.0)
    batch, metrics = penalised.prepare(START, scored(scores, gap=gap, beta=penalised.beta))
    assert batch.answers.actions[0].tolist() == [4, 5]
    assert float(metrics["scores/best"]) == 2.0  # of the scores themselves, (3 + 1) / 2
    batch, _ = plain.prepare(START, scored(scores, gap=gap, beta=plain.beta))
    assert batch.answers.actions[0].tolist() == [5, 6]


def test_an_answer_without_a_word_is_never_selected():
    stop = VOCABULARY.stop_ids[0]
    rollout = rollout_of(LAB, np.array([[[stop, 4], [5, stop]]]))
    answers = rollout.trajectory
    mask = jnp.array([[[True, False], [True, True]]])
    rollout = rollout._replace(
        trajectory=Trajectory(answers.inputs, answers.actions, mask),
        finished=jnp.ones((1, 2), bool),
    )
    given = Scored(rollout, jnp.array([[9.0, 1.0]]), rollout.token_logps)
    np.testing.assert_array_equal(ranking_scores(given), [[jnp.nan, 1.0]])
    batch, metrics = best_of(LAB, samples=2).prepare(START, given)
    assert batch.answers.actions.tolist() == [[5, stop]]
    assert float(metrics["scores/best"]) == 1.0


def test_global_ranking_keeps_the_best_of_a_batch():
    answers = ANSWERS.reshape(6, 1, 2)
    scores = np.array([[1.0], [7.0], [jnp.nan], [0.0], [2.0], [6.0]], np.float32)
    batch, metrics = top_of_batch(LAB, samples=3).prepare(START, scored(scores, answers))
    assert batch.answers.actions.tolist() == [[5, 6], [5, 5]]
    assert batch.weights.tolist() == [1, 1]
    assert float(metrics["scores/best"]) == 6.5
    assert float(metrics["groups/kept"]) == 1.0


def test_global_ranking_needs_as_many_prompts_as_it_chooses_from():
    with pytest.raises(ValueError, match="one of 7 prompts, and a step has 6"):
        top_of_batch(LAB, samples=7).prepare(
            START, scored(np.zeros((6, 1), np.float32), ANSWERS.reshape(6, 1, 2))
        )


def test_a_weight_of_the_ranking_is_refused_below_zero():
    with pytest.raises(ValueError, match="kl must be in"):
        best_of(LAB, samples=2, kl=-1.0)


def test_shares_of_prompts_that_are_tied():
    found = tie_metrics(best_answers(jnp.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]])), 3)
    assert {name: float(x) for name, x in found.items()} == {
        "groups/kept": 1.0,
        "groups/tied": 1.0,
        "groups/equal": 0.5,
    }


def given_reference(scores, logits=START):
    """Scored answers with a reference of one logit per word."""
    return scored(scores)._replace(
        reference=lambda answers: LAB.policy.logits(logits, answers.inputs)
    )


SCORES = np.array([[1.0, 6.0, np.nan], [np.nan] * 3], np.float32)


def test_superhf_reads_the_reference_on_selected_answers_alone():
    method = superhf(LAB, samples=3, beta=0.5)
    batch, metrics = method.prepare(START, given_reference(SCORES))
    assert batch.answers.actions[0].tolist() == [5, 6]
    assert batch.weights.tolist() == [1, 0]
    assert batch.columns["ref_logits"].shape == (2, 2, VOCABULARY.size)
    assert float(metrics["scores/best"]) == 6.0
    assert float(metrics["groups/kept"]) == 0.5
    loss, _ = method.objective(START, batch)  # at the reference the prior is 0
    assert float(loss) == pytest.approx(np.log(8.0))


@pytest.mark.parametrize("divergence", [forward_kl, exact_kl])
def test_the_prior_is_weighed_by_beta_in_either_direction(divergence):
    ref = 0.3 * jnp.arange(8.0)
    given = given_reference(SCORES, ref)
    with_prior, without = (
        superhf(LAB, samples=3, beta=beta, divergence=divergence) for beta in (0.5, 0.0)
    )
    batch, _ = with_prior.prepare(START, given)
    added = float(with_prior.objective(START, batch)[0]) - float(without.objective(START, batch)[0])
    assert added == pytest.approx(0.5 * float(divergence(START, ref)), rel=1e-5)


def test_without_a_prior_superhf_is_best_of():
    params = 0.1 * jnp.arange(8.0)
    slopes = []
    for method in (superhf(LAB, samples=3, beta=0.0), best_of(LAB, samples=3)):
        batch, _ = method.prepare(params, given_reference(SCORES))
        slopes.append(jax.grad(lambda p, m=method, b=batch: m.objective(p, b)[0].value())(params))
    np.testing.assert_allclose(*slopes, atol=1e-6)


def test_superhf_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match=r"samples must be in \[2, inf\), got 1"):
        superhf(LAB, samples=1, beta=0.1)
    with pytest.raises(ValueError, match="beta must be in"):
        superhf(LAB, samples=2, beta=-0.1)
    with pytest.raises(ValueError, match=r"needs Scored\.reference"):
        superhf(LAB, samples=3, beta=0.1).prepare(START, scored(SCORES))
