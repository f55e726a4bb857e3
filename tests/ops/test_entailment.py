"""Log-odds of yes and no by hand, their zero, and scores under one of several principles."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops.ensembles import mean_scores, worst_case_scores
from rlhf_jax.ops.entailment import entailment_log_odds, scores_under, signed_log_odds

SCORES = jnp.array([[1.0, -2.0, 0.5], [3.0, 4.0, -6.0]])  # [principles, answers]


def test_log_odds_by_hand():
    logits = jnp.log(jnp.array([0.5, 0.2, 0.2, 0.1])) + 7.0
    # log 0.3 - log 0.2; one spelling each: the difference of two logits.
    np.testing.assert_allclose(entailment_log_odds(logits, yes=(2, 3), no=(1,)), 0.4054651, 1e-5)
    one = entailment_log_odds(logits, yes=(2,), no=(0,))
    np.testing.assert_allclose(one, logits[2] - logits[0], rtol=1e-6)
    swapped = entailment_log_odds(logits, yes=(0,), no=(2,))
    np.testing.assert_allclose(swapped, -one, rtol=1e-6)


def test_other_tokens_cancel_and_sigmoid_is_the_share_of_yes():
    logits = jnp.array([[1.0, 2.0, -1.0, 0.3], [1.0, 2.0, 900.0, 0.3]])
    odds = entailment_log_odds(logits, yes=(1,), no=(0, 3))
    np.testing.assert_allclose(odds[0], odds[1], rtol=1e-6)
    probs = jax.nn.softmax(logits[0])
    np.testing.assert_allclose(
        jax.nn.sigmoid(odds[0]), probs[1] / (probs[0] + probs[1] + probs[3]), rtol=1e-6
    )


def test_a_known_verdict_signs_the_odds_and_bounds_them():
    odds, labels = jnp.array([0.5, 0.5, -40.0, jnp.inf]), jnp.array([True, False, True, False])
    np.testing.assert_allclose(signed_log_odds(odds, labels), [0.5, -0.5, -10.0, -10.0])
    np.testing.assert_allclose(signed_log_odds(odds[:3], labels[:3], clip=3.0)[2], -3.0)
    with pytest.raises(ValueError, match="clip"):
        signed_log_odds(odds, labels, clip=0.0)
    with pytest.raises(TypeError, match="labels must be bool"):
        jax.eval_shape(inspect.unwrap(signed_log_odds), odds, jnp.ones(4))


def test_each_answer_has_the_score_of_its_own_principle():
    found = scores_under(SCORES, jnp.array([1, 0, 2]))
    np.testing.assert_array_equal(found, [3.0, -2.0, jnp.nan])
    assert jnp.isnan(scores_under(SCORES, jnp.array([-1, 0, 0]))[0])
    slopes = jax.grad(lambda x: scores_under(x, jnp.array([1, 0, 0])).sum())(SCORES)
    np.testing.assert_array_equal(slopes, [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])


def test_mean_and_minimum_over_principles_are_those_of_members():
    np.testing.assert_allclose(mean_scores(SCORES), [2.0, 1.0, -2.75])
    np.testing.assert_allclose(worst_case_scores(SCORES), [1.0, -2.0, -6.0])
