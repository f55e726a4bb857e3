"""Safe-set control on cells: every fit by hand in a room of 4 x 2 cells, and plans through it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.planning import cross_entropy, safe_cells
from rlhf_jax.algos.planning.safe_cells import Config, Fits, Room
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
    config = Config(gamma=0.5, unseen=-9.0)
    stored = jnp.any(replay.mask, -1)
    run = jax.jit(lambda values: safe_cells.fit(replay, stored, values, ROOM, config))
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


def test_the_model_is_the_least_squares_one(replay, fits):
    np.testing.assert_allclose(fits.model, [[1, 0], [0, 1], [0, 0]], atol=1e-4)
    slow = replay._replace(actions=2.0 * replay.actions + 1.0)
    np.testing.assert_allclose(
        safe_cells.fit_model(slow), [[0.5, 0], [0, 0.5], [-0.5, -0.5]], atol=1e-4
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
    config = Config(gamma=0.5, unseen=-9.0)
    plans = jnp.array(
        [
            [[1.0, 0.0], [1.0, 0.0]],  # (1, 0), (2, 0): safe, V = -1
            [[0.0, 1.0], [1.0, 0.0]],  # (0, 1), (1, 1): misses all six thresholds
            [[0.0, 1.0], [0.0, 0.0]],  # ends at f = 0.9
            [[1.0, 1.0], [1.0, 0.0]],  # through the violation
        ]
    )
    at = jnp.array([0.5, 0.5])
    scores = safe_cells.plan_scores(plans, at, fits, ROOM, config)
    ahead = float(fits.values[0, 1])
    np.testing.assert_allclose(scores, [-1, -np.inf, ahead, -np.inf], rtol=1e-5)
    far = safe_cells.plan_scores(plans[:1], at + jnp.array([1.0, 0.0]), fits, ROOM, config)
    np.testing.assert_allclose(far, [1.0])  # in the goal at its end: V = 0, one step
    # f = 0.9 misses one threshold of 0.95, and no other.
    strict = safe_cells.plan_scores(plans[2:3], at, fits, ROOM, Config(threshold=0.95))
    np.testing.assert_allclose(strict, ahead - safe_cells.MISSED, rtol=1e-6)


def test_without_a_safe_set_what_is_new_is_worth_most(fits):
    planner = safe_cells.free(fits)
    np.testing.assert_allclose(planner.safe, 1.0)
    np.testing.assert_allclose(planner.values[3, 1], 0.0)
    np.testing.assert_allclose(planner.values[1, 0], fits.values[1, 0])


def test_the_robot_is_led_to_the_goal_and_a_lost_one_moves_at_random(fits):
    search = cross_entropy.Config(horizon=2, candidates=64, elites=8, sweeps=4)
    config = Config(search=search)
    choose = jax.jit(partial(safe_cells.choose, room=ROOM, config=config))
    action, feasible = choose(jax.random.key(0), jnp.array([2.3, 0.5]), fits)
    assert bool(feasible)
    assert float(action[0]) > 0.3
    nowhere = fits._replace(unsafe=jnp.ones(ROOM.shape, bool))
    action, feasible = choose(jax.random.key(0), jnp.array([2.3, 0.5]), nowhere)
    assert not bool(feasible)
    assert np.all(np.abs(action) <= 0.9)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: Room(width=4.0, height=2.0, side=1.0, limit=1.0), "limit"),
        (lambda: Config(threshold=1.0), "threshold"),
        (lambda: Config(sweeps=0), "sweeps"),
    ],
)
def test_settings_out_of_range_are_named(build, name):
    with pytest.raises(ValueError, match=name):
        build()
