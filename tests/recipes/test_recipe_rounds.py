"""Dynamic sampling by hand: which groups are kept, and what fills up a batch."""

import jax.numpy as jnp
import numpy as np
import pytest
from unigram_lab import rollout_of, unigram_lab

from rlhf_jax.recipes.rewards import known_reward
from rlhf_jax.recipes.rounds import Drawn, informative_batch, make_grade
from rlhf_jax.types import Prompts

LAB = unigram_lab()
# Two rounds of two prompts; groups of equal scores tell nothing.
SCORES = np.array([[[1.0, 1.0], [0.0, 2.0]], [[3.0, 0.0], [5.0, 4.0]]], np.float32)


def draw(number):
    """The prompts of a round are 2 number and 2 number + 1; the ids of an answer tell them too."""
    indices = 2 * number + np.arange(2)
    answers = np.broadcast_to(indices[:, None, None], (2, 2, 3))
    rollout = rollout_of(LAB, answers)
    prompts = Prompts((np.zeros((2, 1)),), indices)
    return Drawn(prompts, rollout, SCORES[number], {"s": SCORES[number]})


GRADE = make_grade(known_reward())


def test_groups_of_equal_scores_are_graded_as_uninformative():
    scores, informative = GRADE(draw(0))
    np.testing.assert_array_equal(scores, SCORES[0])
    np.testing.assert_array_equal(informative, [False, True])


def test_a_batch_takes_the_first_informative_groups():
    batch, rounds, metrics = informative_batch(draw, GRADE, rounds=9)
    np.testing.assert_array_equal(batch.prompts.indices, [1, 2])
    np.testing.assert_array_equal(batch.given, [[0.0, 2.0], [3.0, 0.0]])
    np.testing.assert_array_equal(batch.rollout.trajectory.actions[:, 0, 0], [1, 2])
    assert rounds == metrics["groups/rounds"] == 2
    assert metrics["groups/kept"] == 3 / 4
    assert metrics["groups/filled"] == 1.0
    assert metrics["scores/drawn"] == (16.0, 8)


def test_a_batch_that_rounds_do_not_fill_has_groups_without_scores():
    with pytest.warns(UserWarning, match="did not fill a batch"):
        batch, _, metrics = informative_batch(draw, GRADE, rounds=1)
    np.testing.assert_array_equal(batch.prompts.indices, [1, 0])
    np.testing.assert_array_equal(batch.given, [[0.0, 2.0], [np.nan, np.nan]])
    assert metrics["groups/filled"] == 0.5
    assert jnp.isfinite(batch.rollout.token_logps).all()
