"""Control tasks: the pendulum by hand and against gymnax, adapters of packages, factors."""

import sys
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.control import gymnax_env, mountain_car_factors, playground_env
from rlhf_jax.envs.pendulum import (
    REWARD_WEIGHTS,
    PendulumState,
    pendulum_env,
    pendulum_factors,
)
from rlhf_jax.sampling.episodes import sample_episode

KEY = jax.random.key(0)
PENDULUM = pendulum_env()


def test_a_step_of_the_pendulum_by_hand():
    """At 30 degrees at 1 rad / s: 1 + .05 (15 / 2 + 3 * 2) = 1.675, then pi / 6 + .05 * 1.675."""
    state = PendulumState(jnp.asarray(jnp.pi / 6), jnp.asarray(1.0))
    state, seen = PENDULUM.step(KEY, state, jnp.array([3.0]))  # the motor gives 2
    assert float(state.velocity) == pytest.approx(1.675)
    assert float(state.angle) == pytest.approx(np.pi / 6 + 0.05 * 1.675)
    assert float(seen.reward) == pytest.approx(-((np.pi / 6) ** 2 + 0.1 + 0.001 * 4))
    assert float(seen.discount) == 1.0
    expected = [np.cos(state.angle), np.sin(state.angle), 1.675]
    np.testing.assert_allclose(seen.observation, expected, rtol=1e-6)


def test_mass_and_friction_change_the_motion_and_are_checked():
    """As above at twice the mass and friction 1: 1 + .05 (15 / 2 + 3 - 1) = 1.475."""
    state = PendulumState(jnp.asarray(jnp.pi / 6), jnp.asarray(1.0))
    moved, _ = pendulum_env(mass=2.0, friction=1.0).step(KEY, state, jnp.array([3.0]))
    assert float(moved.velocity) == pytest.approx(1.475)
    with pytest.raises(ValueError, match=r"mass must be in \(0, inf\)"):
        pendulum_env(mass=0.0)
    with pytest.raises(ValueError, match=r"friction must be in \[0, inf\)"):
        pendulum_env(friction=-1.0)


def test_the_angle_of_the_factors_is_the_short_way_round():
    state = PendulumState(jnp.asarray(2 * jnp.pi + 0.5), jnp.asarray(0.0))
    _, seen = PENDULUM.step(KEY, state, jnp.array([0.0]))
    assert float(seen.reward) == pytest.approx(-0.25, abs=1e-5)


def swing(key, observation):
    return 3.0 * jax.random.uniform(key, (1,), minval=-1.0), jnp.zeros(())


@pytest.mark.long
def test_episodes_under_vmap_are_those_of_a_loop_and_pay_the_sum_of_the_factors():
    keys = jax.random.split(KEY, 3)

    def one(key):
        episode = sample_episode(PENDULUM, swing, key, steps=20)
        return episode.rewards, episode.trajectory.inputs, episode.trajectory.actions

    alone = jax.jit(one)
    looped = [jnp.stack(each) for each in zip(*(alone(key) for key in keys), strict=True)]
    for together, each in zip(jax.jit(jax.vmap(one))(keys), looped, strict=True):
        np.testing.assert_allclose(together, each, rtol=1e-4, atol=1e-5)
    rewards, observations, actions = looped
    factors = pendulum_factors(observations, actions)
    assert (np.asarray(factors) <= 0).all()
    np.testing.assert_allclose(rewards, factors @ jnp.asarray(REWARD_WEIGHTS), rtol=1e-5)


def test_a_step_under_jit_is_the_same():
    state, _ = PENDULUM.reset(KEY)
    plain = PENDULUM.step(KEY, state, jnp.array([0.7]))
    for one, two in zip(
        jax.tree.leaves(plain),
        jax.tree.leaves(jax.jit(PENDULUM.step)(KEY, state, jnp.array([0.7]))),
        strict=True,
    ):
        np.testing.assert_allclose(one, two, rtol=1e-6)


def test_the_pendulum_steps_like_that_of_gymnax():
    pytest.importorskip("gymnax")
    other = gymnax_env("Pendulum-v1")
    # Long enough to pass gymnax's time limit of 200, which is not the end of anything here.
    theirs = jax.jit(lambda key: sample_episode(other, swing, key, steps=220))(KEY)
    start, _ = other.reset(jax.random.fold_in(KEY, 220))
    state = PendulumState(start.theta, start.theta_dot)
    _, seen = jax.lax.scan(
        lambda state, action: PENDULUM.step(KEY, state, action), state, theirs.trajectory.actions
    )
    assert np.asarray(theirs.discounts).all()
    following = np.concatenate([theirs.trajectory.inputs[1:], theirs.last_observation[None]])
    # The motion is chaotic: rounding errors grow along an episode.
    np.testing.assert_allclose(seen.observation[:100], following[:100], atol=2e-3)
    np.testing.assert_allclose(seen.reward[:100], theirs.rewards[:100], atol=5e-3)
    assert np.abs(np.diff(theirs.states.theta)).max() <= 0.4 + 1e-6  # 8 rad / s: no new start


def test_the_mountain_car_of_gymnax_ends_at_the_goal_and_does_not_start_again():
    pytest.importorskip("gymnax")
    car = gymnax_env("MountainCarContinuous-v0")
    state, _ = car.reset(KEY)
    state = state.replace(position=jnp.asarray(0.44), velocity=jnp.asarray(0.05))
    action = jnp.array([0.5])
    state, seen = jax.jit(car.step)(KEY, state, action)
    assert float(seen.discount) == 0.0
    assert float(seen.reward) == pytest.approx(100 - 0.1 * 0.25, rel=1e-6)
    assert float(state.position) == float(seen.observation[0]) >= 0.45
    np.testing.assert_allclose(mountain_car_factors(seen.observation, action), [1.0, -0.25])
    with pytest.raises(ValueError, match="NoSuchTask"):
        gymnax_env("NoSuchTask")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained:DeprecationWarning")
def test_the_cart_pole_of_playground_scans_and_vmaps():
    pytest.importorskip("mujoco_playground")
    pole = playground_env("CartpoleBalance")

    def push(key, observation):
        return jnp.ones(1), jnp.zeros(())

    def one(key):
        episode = sample_episode(pole, push, key, steps=20)
        return episode.trajectory.inputs, episode.rewards, episode.discounts

    observations, rewards, discounts = jax.jit(jax.vmap(one))(jax.random.split(KEY, 3))
    assert observations.shape == (3, 20, 5)
    assert (np.asarray(rewards) > 0).all()
    assert np.asarray(discounts).all()
    assert (np.diff(observations[..., 0]) > 0).all()  # pushed to one side, the cart goes there
    with pytest.raises(ValueError, match="NoSuchTask"):
        playground_env("NoSuchTask")


def test_factors_of_the_mountain_car():
    observations = jnp.array([[0.45, 0.0], [0.5, -0.01], [0.44, 0.07]])
    factors = mountain_car_factors(observations, jnp.array([[2.0], [0.5], [-1.0]]))
    np.testing.assert_allclose(factors, [[1.0, -4.0], [0.0, -0.25], [0.0, -1.0]])


class FakeState(NamedTuple):
    obs: jax.Array
    reward: jax.Array
    done: jax.Array


class FakeWorld:
    """Counts up by the action; over at 3, as the environments of both packages say it."""

    def reset(self, key):
        return FakeState(jnp.zeros(1), jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        place = state.obs + action
        return FakeState(place, 10 * place[0], (place[0] >= 3).astype(jnp.float32))

    def reset_env(self, key, params):
        return jnp.zeros(1), {"place": 0.0, "params": params}

    def step_env(self, key, state, action, params):
        place = state["place"] + action[0]
        state = {"place": place, "params": params}
        return place[None], state, 10 * place, place >= params, {}


@pytest.mark.parametrize("package", ["gymnax", "mujoco_playground"])
def test_an_adapter_says_what_the_package_says(monkeypatch, package):
    asked = []

    def load(name, **options):
        asked.append((name, options))
        return FakeWorld() if package == "mujoco_playground" else (FakeWorld(), 3.0)

    fake = ModuleType(package)
    fake.__dict__.update(make=load, registry=SimpleNamespace(load=load))
    monkeypatch.setitem(sys.modules, package, fake)
    env = {"gymnax": gymnax_env, "mujoco_playground": playground_env}[package]("Counter")
    assert [name for name, _ in asked] == ["Counter"]
    episode = sample_episode(env, lambda key, seen: (jnp.ones(1), jnp.zeros(())), KEY, steps=5)
    np.testing.assert_array_equal(episode.rewards, [10, 20, 30, 0, 0])
    np.testing.assert_array_equal(episode.discounts, [1, 1, 0, 0, 0])
    # Nothing starts again: the world goes on where it was.
    np.testing.assert_array_equal(episode.last_observation, [5.0])


@pytest.mark.parametrize(
    ("make", "package"), [(gymnax_env, "gymnax"), (playground_env, "mujoco_playground")]
)
def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch, make, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not installed: .*\[control\]"):
        make("Pendulum-v1")
