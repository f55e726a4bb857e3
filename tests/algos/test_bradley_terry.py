"""The Bradley-Terry model of a win matrix."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos.bradley_terry import fit_win_matrix, win_matrix_loss
from rlhf_jax.envs.games import bradley_terry_game


def test_the_loss_by_hand():
    """Scores (log 3, 0): -log 3/4 twice and -log 1/4 once."""
    wins = jnp.array([[0.0, 2.0], [1.0, 0.0]])
    found = win_matrix_loss(jnp.log(jnp.array([3.0, 1.0])), wins)
    np.testing.assert_allclose(found, 2 * np.log(4 / 3) + np.log(4), rtol=1e-6)


def test_the_scores_of_a_bradley_terry_game_are_found():
    """Whatever the counts of the pairs; the scores come back with mean 0."""
    scores = jnp.array([1.0, -0.5, 0.25, -0.75])
    met = jnp.array([[0, 1, 9, 2], [1, 0, 1, 4], [9, 1, 0, 3], [2, 4, 3, 0]])
    found = jax.jit(fit_win_matrix)(met * bradley_terry_game(scores))
    np.testing.assert_allclose(found, scores, atol=1e-5)


def test_two_answers_by_hand():
    """Three wins of four: r_1 - r_2 = logit 3/4 = log 3."""
    found = fit_win_matrix(jnp.array([[0.0, 3.0], [1.0, 0.0]]))
    np.testing.assert_allclose(found, [np.log(3) / 2, -np.log(3) / 2], rtol=1e-5)
