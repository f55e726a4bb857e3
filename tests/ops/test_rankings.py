"""Order, ties and accuracy of ranked lists, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.ops.rankings import best_first, ranking_accuracy, tied_with_better

SCORES = jnp.array([0.2, 0.9, jnp.nan, 0.2, 0.5])
MASK = jnp.array([True, True, True, True, False])


def test_the_best_comes_first_and_missing_ones_last():
    # 0.9; the two 0.2 in the order of the row; then no score, then not real
    assert best_first(SCORES, MASK).tolist() == [1, 0, 3, 2, 4]


def test_ties_are_with_a_better_one():
    assert tied_with_better(SCORES, MASK).tolist() == [False, False, False, True, False]
    alone = MASK & jnp.array([False, True, True, True, True])
    assert not bool(tied_with_better(SCORES, alone).any())


def test_accuracy_counts_pairs_with_different_scores():
    # pairs 1 over 0 and 1 over 3: values 1 > 0 right, 1 = 1 one half
    values = jnp.array([0.0, 1.0, 9.0, 1.0, 9.0])
    found = ranking_accuracy(values, SCORES, MASK)
    np.testing.assert_allclose(found.total, 0.75, rtol=1e-6)
    assert float(found.weight) == 1.0
    equal = ranking_accuracy(values, jnp.ones(5), MASK)
    assert (float(equal.total), float(equal.weight)) == (0.0, 0.0)


def test_leading_axes_are_free():
    scores = jax.random.normal(jax.random.key(0), (2, 3, 4))
    mask = jnp.ones((2, 3, 4), bool)
    each = jax.vmap(jax.vmap(best_first))(scores, mask)
    np.testing.assert_array_equal(best_first(scores, mask), each)
    np.testing.assert_array_equal(ranking_accuracy(scores, scores, mask).total, np.ones((2, 3)))
