"""The point robot: pushes, borders, the wall, the goal, the clock."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.point_robot import NOISE, PointState, in_goal, in_wall, point_robot
from rlhf_jax.sampling.episodes import sample_episode

KEY = jax.random.key(5)
ENV = point_robot(goal_radius=3.0, horizon=100)
STEP = jax.jit(ENV.step)


def at(x: float, y: float, time: int = 0) -> PointState:
    return PointState(jnp.array([x, y]), jnp.array(time))


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return NOISE * np.asarray(jax.random.normal(KEY, (2,)))


def test_a_push_moves_and_is_clipped(noise):
    state, seen = STEP(KEY, at(30.0, 75.0), jnp.array([2.0, -10.0]))
    np.testing.assert_allclose(state.position, np.array([32.0, 72.0]) + noise, atol=1e-4)
    np.testing.assert_array_equal(seen.observation, state.position)
    assert (float(seen.reward), float(seen.discount), int(state.time)) == (-1.0, 1.0, 1)


def test_the_room_has_borders():
    state, _ = STEP(KEY, at(179.9, 0.1), jnp.array([3.0, -3.0]))
    np.testing.assert_allclose(state.position, [180.0, 0.0])


def test_inside_the_wall_nothing_moves():
    state, seen = STEP(KEY, at(80.0, 60.0), jnp.array([3.0, 3.0]))
    np.testing.assert_array_equal(state.position, [80.0, 60.0])
    assert float(seen.reward) == -1.0


def test_wall_and_goal_as_sets():
    points = jnp.array([[75.0, 55.0], [100.0, 95.0], [74.9, 60.0], [80.0, 95.1], [150.0, 78.0]])
    assert in_wall(points).tolist() == [True, True, False, False, False]
    assert in_goal(points).tolist() == [False, False, False, False, True]
    assert in_goal(points, radius=80.0).tolist() == [True, True, True, True, True]


def test_a_step_from_the_goal_is_free_and_the_clock_ends_the_episode():
    _, seen = STEP(KEY, at(150.0, 77.9), jnp.zeros(2))
    assert (float(seen.reward), float(seen.discount)) == (0.0, 1.0)
    _, seen = STEP(KEY, at(30.0, 75.0, 98), jnp.zeros(2))
    assert float(seen.discount) == 1.0
    _, seen = STEP(KEY, at(30.0, 75.0, 99), jnp.zeros(2))
    assert float(seen.discount) == 0.0


@pytest.mark.slow
def test_a_way_round_the_wall_is_safe_and_arrives():
    """Up to y = 110, along, and down to the goal, all within the horizon."""

    def act(_, place):
        x, y = place
        high = jnp.where(x < 112.0, 110.0, 75.0)
        push = jnp.where(
            (x < 70.0) & (y < 100.0), jnp.array([1.5, 3.0]), jnp.array([150.0 - x, high - y])
        )
        return push, jnp.zeros(())

    episode = jax.jit(lambda key: sample_episode(ENV, act, key, steps=100))(KEY)
    path = np.asarray(episode.states.position)
    assert not in_wall(jnp.asarray(path)).any()
    assert bool(in_goal(episode.last_observation))
    assert -100 < float(episode.rewards.sum()) < -30
    assert episode.trajectory.mask.all()
    assert abs(path[0] - [30.0, 75.0]).max() < 5.0


@pytest.mark.parametrize("change", [{"goal_radius": 0}, {"horizon": 0}])
def test_values_out_of_range_are_named(change):
    with pytest.raises(ValueError, match=r"goal_radius must be > 0 and horizon >= 1, got"):
        point_robot(**change)
