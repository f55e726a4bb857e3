"""Draws, judgements and labels that the rounds of self-play begin with."""

import answer_population as toy
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from answer_population import KEY, LOGPS, PREFS, actions_of, table

from rlhf_jax.algos.selfplay.regressions import labelled_pairs
from rlhf_jax.algos.selfplay.rounds import (
    draw_answers,
    equal_weights,
    judge_answers,
    known_weights,
    start_rounds,
)
from rlhf_jax.rewards import JudgeError

DRAWN = np.array([[0, 1], [1, 2], [2, 0]])
PARAMS, PROMPTS = table(LOGPS), toy.prompts(len(DRAWN))


@pytest.mark.long
def test_a_draw_of_two_answers_is_two_trajectories():
    first, second = draw_answers(toy.listed(DRAWN), PARAMS, PROMPTS, KEY, 2)
    np.testing.assert_array_equal(actions_of(first), [0, 1, 2])
    np.testing.assert_array_equal(actions_of(second), [1, 2, 0])


def test_the_judge_is_asked_row_by_row_and_checked():
    first, second = draw_answers(toy.listed(DRAWN), PARAMS, PROMPTS, KEY, 2)
    arena = toy.arena(None, toy.matrix_judge)
    prefs = judge_answers(arena, PROMPTS.indices, first, second)
    # P(0 beats 1), P(1 beats 2), P(2 beats 0)
    np.testing.assert_allclose(prefs, [0.75, 1.0, 1.0])
    broken = arena._replace(judge=lambda indices, first, second: np.array([0.5, np.nan, 0.5]))
    with pytest.raises(JudgeError, match="for prompt 1 "):
        judge_answers(broken, PROMPTS.indices, first, second)


@pytest.mark.long
def test_the_first_answer_wins_as_often_as_the_judge_says():
    pairs = np.tile([[0, 1]], (2000, 1))
    arena = toy.arena(toy.listed(pairs), toy.matrix_judge)
    winner, loser, weights, metrics = labelled_pairs(arena, PARAMS, toy.prompts(2000), KEY)
    assert weights is None
    np.testing.assert_array_equal(actions_of(winner) + actions_of(loser), 1)  # 0 and 1 in a pair
    assert float(metrics["prefs/mean"].value()) == PREFS[0, 1]
    share = np.mean(actions_of(winner) == 0)
    # P(0 beats 1) = 3/4, four standard errors of 2000 labels: 4 sqrt(0.75 0.25 / 2000) = 0.039
    assert abs(share - 0.75) < 0.039


def test_a_verdict_of_none_masks_its_comparison_and_nan_is_refused():
    first, second = draw_answers(toy.listed(DRAWN), PARAMS, PROMPTS, KEY, 2)
    arena = toy.arena(None, lambda indices, first, second: [0.5, None, 1.0])
    prefs = judge_answers(arena, PROMPTS.indices, first, second)
    np.testing.assert_array_equal(prefs, [0.5, np.nan, 1.0])
    np.testing.assert_array_equal(known_weights(None, prefs), [1, 0, 1])
    other = jnp.array([1.0, 1.0, jnp.nan])
    np.testing.assert_array_equal(
        known_weights(jnp.array([2.0, 2.0, 2.0]), prefs, other), [2, 0, 0]
    )
    assert known_weights(None, other[:2]) is None
    assert equal_weights(toy.listed(DRAWN)(PARAMS, PROMPTS, KEY, 2)) is None
    broken = arena._replace(judge=lambda indices, first, second: [0.5, None, np.nan])
    with pytest.raises(JudgeError, match="for prompt 2 "):
        judge_answers(broken, PROMPTS.indices, first, second)


def test_rounds_start_at_0_with_a_fresh_optimiser_and_the_memory_given():
    optimizer = optax.adam(0.1)
    state = start_rounds(toy.arena(None, None, optimizer=optimizer), PARAMS, memory="queue")
    assert (int(state.round), int(state.train.step), state.memory) == (0, 0, "queue")
    np.testing.assert_array_equal(state.train.params, PARAMS)
    np.testing.assert_array_equal(state.train.opt_state[0].mu, np.zeros((1, 3)))
