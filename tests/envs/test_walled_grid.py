"""The walled grid, its clumsy guides and its walks."""

import numpy as np
import pytest

from rlhf_jax.envs.tabular_mdp import absorbing_states, check_mdp
from rlhf_jax.envs.walled_grid import border_demonstrator, directed_walk, walled_grid


def cell(row: int, column: int) -> int:
    return 14 * row + column


@pytest.fixture(scope="module")
def grid():
    return walled_grid()


def test_goal_walls_start_and_costs(grid):
    check_mdp(grid.mdp)
    goal, walls = np.asarray(grid.goal), np.asarray(grid.walls)
    assert (goal.sum(), walls.sum()) == (10, 24)
    assert goal[[cell(2, 13), cell(11, 13)]].all()
    assert not goal[[cell(1, 13), cell(12, 13), cell(5, 12)]].any()
    assert walls[[cell(4, 5), cell(9, 8)]].all()
    assert not walls[[cell(3, 5), cell(10, 8), cell(4, 4), cell(9, 9)]].any()
    assert int(np.argmax(grid.mdp.initial)) == cell(7, 0)
    np.testing.assert_array_equal(absorbing_states(grid.mdp), goal | walls)
    np.testing.assert_array_equal(np.asarray(grid.mdp.rewards)[:, 0], -1.0 * ~(goal | walls))


def test_the_slip_next_to_a_wall(grid):
    row = np.asarray(grid.mdp.transitions)[cell(5, 4), 0]
    assert row[cell(5, 5)] == pytest.approx(0.0125)
    assert row[cell(4, 4)] == pytest.approx(0.9625)


def test_guides_go_round_along_their_border():
    probs = np.exp(border_demonstrator(random_share=0.2))
    np.testing.assert_allclose(probs.sum(-1), 1.0, atol=1e-6)
    for side, (place, action) in [
        (0, (cell(7, 0), 0)),
        (0, (cell(0, 4), 3)),
        (0, (cell(1, 13), 1)),
        (1, (cell(7, 0), 1)),
        (1, (cell(13, 4), 3)),
        (1, (cell(12, 13), 0)),
    ]:
        expected = np.full(4, 0.05)
        expected[action] = 0.85
        np.testing.assert_allclose(probs[side, place], expected, atol=1e-6)


def test_walks_from_random_to_straight():
    target, place = cell(3, 9), cell(7, 2)
    straight = np.exp(directed_walk(rho=1.0))
    np.testing.assert_allclose(straight[target, place], [0.5, 0, 0, 0.5], atol=1e-6)
    np.testing.assert_allclose(straight[target, cell(3, 12)], [0, 0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(straight[target, target], 0.25, atol=1e-6)
    np.testing.assert_allclose(np.exp(directed_walk(rho=0.0)), 0.25, atol=1e-6)
    half = np.exp(directed_walk(rho=0.5))
    np.testing.assert_allclose(half[target, place], [0.375, 0.125, 0.125, 0.375], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: walled_grid(slip=-0.1), "slip must be in"),
        (lambda: border_demonstrator(random_share=2), "random_share must be in"),
        (lambda: directed_walk(rho=-1), "rho must be in"),
    ],
)
def test_shares_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
