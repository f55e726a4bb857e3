"""Safe-set control on cells: every fit by hand in a room of 4 x 2 cells, and plans through it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.planning import cross_entropy, safe_cells
from rlhf_jax.algos.planning.safe_cells import CellsConfig, Fits, Room
from rlhf_jax.algos.planning.safe_set import Replay

ROOM = Room(width=4.0, height=2.0, side=1.0, limit=0.9)
T = 4
# Centres of cells (x, y), a row each: a success, a violation in (2, 1), and one that was cut off.
PATHS = [[(0, 0), (1, 0), (2, 0), (3, 0)], [(0, 1), (1, 1), (2, 1)], [(0, 1), (0, 0), (0, 0)]]


@pytest.fixture(scope="module")
def replay() -> Replay:
    states, mask = np.zeros((4, T + 1, 2)), np.zeros((4, T), bool)
    for row, path in enumerate(PATHS):
        states[row] = np.array(path + [path[-1]] * (T + 1 - len(path))) + 0.5
        mask[row, : len(path) - 1] = True
    actions = states[:, 1:] - states[:, :-1]
    rows = np.arange(4)
    return Replay(*map(jnp.asarray, (states, actions, mask, rows == 0, rows == 1)))


@pytest.fixture(scope="module")
def fits(replay) -> Fits:
    config = CellsConfig(gamma=0.5, unseen=-9.0)
    stored = jnp.any(replay.mask, -1)
    run = jax.jit(lambda values: safe_cells.fit_cells(replay, stored, values, ROOM, config))
    return run(jnp.zeros(ROOM.shape))


def test_cells_are_found_and_those_outside_moved_to_the_edge():
    x, y = safe_cells.cell_of(jnp.array([[0.2, 1.9], [3.999, 0.0], [-1.0, 7.0]]), ROOM)
    np.testing.assert_array_equal(x, [0, 3, 0])
    np.testing.assert_array_equal(y, [1, 0, 1])
    assert ROOM.shape == (4, 2)


def test_moves_and_ends_are_counted_for_kept_rows_only(replay):
    visits = safe_cells.count_visits(replay, jnp.array([True, True, True, False]), ROOM)
    right, stay, down = (safe_cells.OFFSETS.index(o) for o in ((1, 0), (0, 0), (0, -1)))
    np.testing.assert_array_equal(visits.moves[right], [[1, 1], [1, 1], [1, 0], [0, 0]])
    assert (visits.moves[stay, 0, 0], visits.moves[down, 0, 1]) == (1, 1)
    assert float(visits.moves.sum()) == 7
    assert (visits.goal[3, 0], visits.unsafe[2, 1]) == (1, 1)
    few = safe_cells.count_visits(replay, jnp.array([True, False, False, False]), ROOM)
    assert (float(few.moves.sum()), float(few.unsafe.sum())) == (3, 0)


def test_neighbours_are_in_the_order_of_the_offsets():
    around = safe_cells.neighbours(jnp.arange(8.0).reshape(4, 2), outside=-1)
    for (i, j), values in zip(safe_cells.OFFSETS, np.asarray(around), strict=True):
        assert values[1, 0] == (-1 if j < 0 else 2 * (1 + i) + j)


def test_parts_of_the_fit_from_counts_alone():
    """Two of three visits of (0, 0) were violations; the third went on to (1, 0), the goal."""
    moves = jnp.zeros((9, 4, 2)).at[safe_cells.OFFSETS.index((1, 0)), 0, 0].set(1.0)
    nowhere = jnp.zeros((4, 2))
    visits = safe_cells.Visits(moves, nowhere.at[1, 0].set(1.0), nowhere.at[0, 0].set(2.0))
    rare, common = (np.asarray(safe_cells.unsafe_cells(visits, share=s)) for s in (0.7, 0.6))
    assert not rare.any()
    # (0, 1) and (1, 1) lie beside it, without a visit; (1, 0) was visited and is no violation.
    np.testing.assert_array_equal(common, [[1, 1], [0, 1], [0, 0], [0, 0]])
    values = safe_cells.cell_values(visits, nowhere, gamma=0.5, unseen=-9.0, sweeps=5)
    np.testing.assert_allclose(values[:2, 0], [(2 * -9 - 1) / 3, 0.0])
    labels = nowhere.at[1, 0].set(1.0) > 0
    safe = safe_cells.safe_cells(visits, labels, gamma=0.9, sweeps=3)
    np.testing.assert_allclose(safe[:2], [[0.9, 0.0], [1.0, 0.0]])


def test_the_model_is_the_least_squares_one(replay, fits):
    np.testing.assert_allclose(fits.model, [[1, 0], [0, 1], [0, 0]], atol=1e-4)
    slow = replay._replace(actions=2.0 * replay.actions + 1.0)
    np.testing.assert_allclose(
        safe_cells.fit_steps(slow), [[0.5, 0], [0, 0.5], [-0.5, -0.5]], atol=1e-4
    )


def test_the_safe_set_the_goal_and_the_constraint(fits):
    # Down leads from (0, 1) into the success; nothing leads there from (1, 1).
    np.testing.assert_allclose(fits.safe, [[1, 0.9], [1, 0], [1, 0], [1, 0]], atol=1e-6)
    np.testing.assert_array_equal(fits.goal, [[0, 0], [0, 0], [0, 0], [1, 0]])
    # (3, 1) was never visited and lies beside the violation.
    np.testing.assert_array_equal(fits.unsafe, [[0, 0], [0, 0], [0, 1], [0, 1]])
    np.testing.assert_array_equal(fits.visited, [[1, 1], [1, 1], [1, 1], [1, 0]])


def test_values_are_those_of_the_record(fits):
    # V(2,0) = -1, V(1,0) = -1.5; (0,0) stays once and moves once, (0,1) goes right and down.
    start = (-1 + (-1 + 0.5 * -1.5)) / 2 / (1 - 0.25)
    upper = -1 + 0.5 * -9
    known = [[start, -1 + 0.5 * (upper + start) / 2], [-1.5, upper], [-1, -9], [0, -9]]
    np.testing.assert_allclose(fits.values, known, rtol=1e-5)


def test_scores_of_plans_by_hand(fits):

    def score(plans, position, config):
        scores = safe_cells.score_cells(fits, config)
        return safe_cells.sequence_scores(plans, position, scores, ROOM)

    config = CellsConfig(gamma=0.5, unseen=-9.0)
    plans = jnp.array(
        [
            [[1.0, 0.0], [1.0, 0.0]],  # (1, 0), (2, 0): safe, V = -1
            [[0.0, 1.0], [1.0, 0.0]],  # (0, 1), (1, 1): misses all six thresholds
            [[0.0, 1.0], [0.0, 0.0]],  # ends at f = 0.9
            [[1.0, 1.0], [1.0, 0.0]],  # through the violation
        ]
    )
    at = jnp.array([0.5, 0.5])
    scores = score(plans, at, config)
    ahead = float(fits.values[0, 1])
    np.testing.assert_allclose(scores, [-1, -np.inf, ahead, -np.inf], rtol=1e-5)
    far = score(plans[:1], at + jnp.array([1.0, 0.0]), config)
    np.testing.assert_allclose(far, [1.0])  # in the goal at its end: V = 0, one step
    # f = 0.9 misses one threshold of 0.95, and no other.
    strict = score(plans[2:3], at, CellsConfig(threshold=0.95))
    np.testing.assert_allclose(strict, ahead - safe_cells.MISSED, rtol=1e-6)


def test_without_a_safe_set_what_is_new_is_worth_most(fits):
    planner = safe_cells.free(fits)
    np.testing.assert_allclose(planner.safe, 1.0)
    np.testing.assert_allclose(planner.values[3, 1], 0.0)
    np.testing.assert_allclose(planner.values[1, 0], fits.values[1, 0])


def test_the_robot_is_led_to_the_goal_and_a_lost_one_moves_at_random(fits):
    search = cross_entropy.SearchConfig(horizon=2, candidates=64, elites=8, sweeps=4)
    noise = cross_entropy.search_noise(jax.random.key(1), size=2, config=search)
    plan = jax.jit(partial(safe_cells.plan_action, room=ROOM, config=search))
    told = jax.random.key(0), noise, jnp.array([2.3, 0.5])
    action, feasible = plan(*told, safe_cells.score_cells(fits, CellsConfig()))
    assert bool(feasible)
    assert float(action[0]) > 0.3
    nowhere = fits._replace(unsafe=jnp.ones(ROOM.shape, bool))
    action, feasible = plan(*told, safe_cells.score_cells(nowhere, CellsConfig()))
    assert not bool(feasible)
    assert np.all(np.abs(action) <= 0.9)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: Room(width=4.0, height=2.0, side=1.0, limit=1.0), "limit"),
        (lambda: CellsConfig(threshold=1.0), "threshold"),
        (lambda: CellsConfig(sweeps=0), "sweeps"),
    ],
)
def test_settings_out_of_range_are_named(build, name):
    with pytest.raises(ValueError, match=name):
        build()
