"""Pairs that explore: by hand, with answers that have no score, and against dense norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.preference import exploring_pairs
from rlhf_jax.envs.bandit import bandit_trajectory


def answers(rows, count):
    """Answers 0 .. count - 1 to each prompt."""
    actions = jnp.broadcast_to(jnp.arange(count), (rows, count))
    return bandit_trajectory(jnp.zeros_like(actions), actions)


def test_the_least_known_direction_by_hand():
    # From the first answer: 2 along x, 1.9 along y. The first pair is along x; then A = diag(5, 1)
    # with ridge 1, and norms are 2 / sqrt 5 = 0.89 and 1.9: the second pair is along y.
    features = jnp.broadcast_to(jnp.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.9]]), (2, 3, 2))
    scores = jnp.array([[0.0, 1.0, 5.0], [3.0, 9.0, 2.0]])
    pairs = exploring_pairs(answers(2, 3), scores, features, -scores, ridge=1.0)
    assert pairs.chosen.actions[:, 0].tolist() == [1, 0]
    assert pairs.rejected.actions[:, 0].tolist() == [0, 2]
    assert np.asarray(pairs.ref_chosen_logps).tolist() == [-1.0, -3.0]
    assert np.asarray(pairs.ref_rejected_logps).tolist() == [0.0, -2.0]
    assert np.asarray(pairs.weights).tolist() == [1, 1]


def test_what_has_no_score_is_not_taken_and_teaches_nothing():
    features = jnp.array([[[0.0, 0.0], [9.0, 0.0], [1.0, 0.0]]] * 3).at[0, 1].set(jnp.nan)
    scores = jnp.array([[0.0, jnp.nan, 1.0], [jnp.nan, 2.0, 1.0], [2.0, 2.0, jnp.inf]])
    pairs = exploring_pairs(answers(3, 3), scores, features, ridge=0.5)
    assert pairs.chosen.actions[0, 0] == 2
    # The second prompt's first answer has no score, and both scores of the third are equal.
    assert np.asarray(pairs.weights).tolist() == [1, 0, 0]
    assert pairs.ref_chosen_logps is None


def test_every_choice_is_the_largest_dense_norm():
    rng = np.random.default_rng(0)
    features, scores = rng.normal(size=(20, 6, 4)), rng.normal(size=(20, 6))
    found = exploring_pairs(answers(20, 6), jnp.asarray(scores), jnp.asarray(features), ridge=0.3)
    ends = np.stack([found.chosen.actions[:, 0], found.rejected.actions[:, 0]])
    partners = np.where(ends[0] == 0, ends[1], ends[0])
    design = 0.3 * np.eye(4)
    for x, partner in zip(features, partners, strict=True):
        differences = x - x[0]
        norms = np.einsum("ki,ij,kj->k", differences, np.linalg.inv(design), differences)
        assert partner == norms.argmax()
        design += np.outer(differences[partner], differences[partner])
    assert (ends == 0).any(0).all()
    assert (np.take_along_axis(scores, ends.T, 1) @ [1, -1] > 0).all()


def test_it_compiles_to_the_same_and_names_what_is_wrong():
    features = jax.random.normal(jax.random.key(0), (5, 4, 3))
    scores = jax.random.normal(jax.random.key(1), (5, 4))
    one = exploring_pairs(answers(5, 4), scores, features, ridge=1.0)
    two = jax.jit(exploring_pairs)(answers(5, 4), scores, features, ridge=1.0)
    np.testing.assert_array_equal(one.chosen.actions, two.chosen.actions)
    with pytest.raises(ValueError, match=r"exploring_pairs needs two or more answers"):
        exploring_pairs(answers(5, 1), scores[:, :1], features[:, :1], ridge=1.0)
    with pytest.raises(ValueError, match="ridge must be in"):
        exploring_pairs(answers(5, 4), scores, features, ridge=0.0)
