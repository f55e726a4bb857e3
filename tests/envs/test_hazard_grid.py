"""The hazard grid: where moves lead, what ends, what pays."""

import jax
import numpy as np
import pytest

from rlhf_jax.envs.hazard_grid import grid_successors, hazard_grid, slippery_transitions
from rlhf_jax.envs.tabular_mdp import absorbing_states, check_mdp

KEYS = jax.random.split(jax.random.key(3), 4)


@pytest.fixture(scope="module")
def grids():
    return jax.jit(jax.vmap(hazard_grid))(KEYS)


def test_moves_on_a_small_board():
    expected = [[0, 2, 0, 1], [1, 3, 0, 1], [0, 2, 2, 3], [1, 3, 2, 3]]
    np.testing.assert_array_equal(grid_successors(2, 2), expected)
    np.testing.assert_array_equal(grid_successors(1, 3)[1], [1, 1, 0, 2])


def test_a_slip_is_one_of_the_four_moves_the_chosen_one_included():
    moves = np.asarray(slippery_transitions(grid_successors(2, 2), slip=0.2))
    np.testing.assert_allclose(moves[0, 3], [0.1, 0.85, 0.05, 0.0], atol=1e-7)
    np.testing.assert_allclose(moves.sum(-1), 1.0, atol=1e-6)


def test_a_batch_of_grids_is_a_valid_mdp(grids):
    check_mdp(grids)
    ends = np.asarray(absorbing_states(grids))
    assert ends.sum(-1).tolist() == [9] * 4
    assert ends[:, 63].all()
    assert not ends[:, [0, 62, 55]].any()
    # Different keys, different hazards.
    assert len({tuple(row) for row in ends}) == 4
    np.testing.assert_allclose(grids.initial, np.where(ends, 0.0, 1 / 55), atol=1e-7)


def test_only_entering_the_goal_pays(grids):
    rewards = np.asarray(grids.rewards)
    paying = np.flatnonzero(rewards[0].any(-1))
    assert paying.tolist() == [55, 62]
    np.testing.assert_allclose(rewards[0, 62], [0.025, 0.025, 0.025, 0.925], atol=1e-6)
    np.testing.assert_allclose(rewards[0, 55], [0.025, 0.925, 0.025, 0.025], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grid_successors(0, 3), "height and width must be >= 1, got 0 x 3"),
        (lambda: slippery_transitions(grid_successors(2, 2), slip=1.5), "slip must be in"),
        (lambda: hazard_grid(KEYS[0], size=1), "size must be >= 2"),
        (lambda: hazard_grid(KEYS[0], size=3, num_hazards=6), "0 to 5 hazards, got 3 and 6"),
    ],
)
def test_bad_sizes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
