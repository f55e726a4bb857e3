"""Best-of-K selection by hand: order, ties, answers without a score, global ranking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops.selection import answers_at, best_answers, kl_ranking_scores, top_answers

SCORES = jnp.array([[1.0, 3.0, 2.0], [2.0, 2.0, 1.0], [5.0, 5.0, 5.0], [jnp.nan, -jnp.inf, 0.0]])


@pytest.mark.parametrize("x64", [False, True])
def test_the_best_answer_and_its_ties_by_hand(x64):
    with jax.enable_x64(x64):
        best = best_answers(jnp.asarray(np.asarray(SCORES)))
        assert best.index.tolist() == [1, 0, 0, 2]
        assert best.keep.tolist() == [True] * 4
        assert best.ties.tolist() == [1, 2, 3, 1]


def test_nothing_is_kept_of_a_group_without_scores_or_with_all_answers_filtered_out():
    scores = jnp.array([[jnp.nan, jnp.inf], [1.0, 2.0]])
    best = best_answers(scores, jnp.array([[True, True], [False, False]]))
    assert best.keep.tolist() == [False, False]
    assert best.index.tolist() == [0, 0]
    assert best.ties.tolist() == [0, 0]


def test_what_a_mask_hides_is_not_selected():
    mask = jnp.array([[True, False, True], [False, True, True], [True, True, False], [True] * 3])
    best = best_answers(SCORES, mask)
    assert best.index.tolist() == [2, 1, 0, 2]
    assert best.ties.tolist() == [1, 1, 2, 1]


def test_one_answer_is_its_own_best():
    best = best_answers(jnp.array([[0.5], [jnp.nan]]))
    assert best.index.tolist() == [0, 0]
    assert best.keep.tolist() == [True, False]


def test_a_rising_transform_selects_the_same_answers():
    scores = jax.random.normal(jax.random.key(0), (200, 8))
    np.testing.assert_array_equal(
        best_answers(scores).index, best_answers(jnp.exp(3 * scores)).index
    )


def test_leading_axes_and_jit_are_free():
    scores = jax.random.normal(jax.random.key(1), (3, 4, 5))
    batched = best_answers(scores)
    for one in (jax.vmap(best_answers)(scores), jax.jit(best_answers)(scores)):
        np.testing.assert_array_equal(one.index, batched.index)
    assert batched.index.shape == (3, 4)


def test_global_ranking_by_hand():
    scores = jnp.array([1.0, jnp.nan, 4.0, 4.0, 2.0, 9.0])
    top = top_answers(scores, count=3)
    assert top.index.tolist() == [5, 2, 3]
    assert top.keep.tolist() == [True] * 3
    hidden = top_answers(scores, jnp.array([True, True, False, True, False, False]), count=3)
    assert hidden.index[:2].tolist() == [3, 0]
    assert hidden.keep.tolist() == [True, True, False]


def test_global_ranking_keeps_easy_prompts():
    easy = jnp.array([10.0, 11.0, 0.0, 1.0])
    assert set(top_answers(easy, count=2).index.tolist()) == {0, 1}


@pytest.mark.parametrize("count", [0, 7])
def test_more_answers_than_there_are_cannot_be_kept(count):
    with pytest.raises(ValueError, match=r"count must be in \[1, 6\]"):
        top_answers(jnp.zeros(6), count=count)


def test_the_penalty_of_the_ranking_by_hand():
    # 2 - 0.5 (-1 + 3), 1 - 0.5 (-4 + 2)
    scores, logps, ref = jnp.array([2.0, 1.0]), jnp.array([-1.0, -4.0]), jnp.array([-3.0, -2.0])
    np.testing.assert_allclose(kl_ranking_scores(scores, logps, ref, beta=0.5), [1.0, 2.0])
    np.testing.assert_array_equal(kl_ranking_scores(scores, logps, ref, beta=0.0), scores)
    with pytest.raises(ValueError, match="beta must be in"):
        kl_ranking_scores(scores, logps, ref, beta=-1.0)


def test_answers_at_takes_places_of_every_array():
    tree = {"a": jnp.arange(6).reshape(2, 3), "b": jnp.arange(12.0).reshape(2, 3, 2), "none": None}
    found = answers_at(tree, jnp.array([[2, 0], [1, 1]]))
    assert found["a"].tolist() == [[2, 0], [4, 4]]
    assert found["b"].tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
    assert found["none"] is None
