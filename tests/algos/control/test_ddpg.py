"""DDPG: an update by hand, its targets, a task whose optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos.control import ddpg
from rlhf_jax.models.mlp import make_mlp

CONFIG = ddpg.DDPGConfig(gamma=0.5, tau=0.25)
SGD = optax.sgd(0.1)


def actor(params, observations):
    return params * observations


def critic(params, observations, actions):
    return params[0] * observations[..., 0] + params[1] * actions[..., 0]


UPDATE = jax.jit(ddpg.make_update(actor, critic, SGD, CONFIG))
START = ddpg.init_ddpg(jnp.asarray(2.0), jnp.array([1.0, 0.5]), SGD)


def batch(**changes) -> ddpg.ControlTransitions:
    rows = ddpg.ControlTransitions(
        jnp.array([[1.0], [2.0]]),
        jnp.array([[1.0], [-1.0]]),
        jnp.array([1.0, 0.0]),
        jnp.array([1.0, 0.0]),
        jnp.array([[2.0], [100.0]]),
    )
    return rows._replace(**changes)


def test_an_update_by_hand():
    """Actor a = 2 s, critic Q = s + a / 2, targets the same.

    y = (1 + .5 * Q(2, 4), 0 + 0) = (3, 0); Q = (1.5, 1.5); errors (-1.5, 1.5).
    Critic: mean error * (s, a) = (.75, -1.5), so Q' = .925 s + .65 a.
    Actor: -mean of .65 * s = -.975, so a' = 2.0975 s.
    """
    new, metrics = UPDATE(START, batch())
    np.testing.assert_allclose(new.critic.params, [0.925, 0.65], rtol=1e-6)
    np.testing.assert_allclose(new.actor.params, 2.0975, rtol=1e-6)
    np.testing.assert_allclose(new.target_critic, [1 - 0.25 * 0.075, 0.5 + 0.25 * 0.15], rtol=1e-6)
    np.testing.assert_allclose(new.target_actor, 2.0 + 0.25 * 0.0975, rtol=1e-6)
    assert float(metrics["critic/loss"].value()) == pytest.approx(0.5 * 1.5**2)
    assert set(metrics) == {
        f"{part}/{name}" for part in ("actor", "critic") for name in ("loss", "grad_norm")
    }


def test_what_follows_an_end_does_not_matter():
    other = batch(next_observations=jnp.array([[2.0], [-7.0]]))
    for one, two in zip(
        jax.tree.leaves(UPDATE(START, batch())[0]),
        jax.tree.leaves(UPDATE(START, other)[0]),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def test_targets_are_made_by_the_slow_copies():
    """With target actor a = -2 s: y = (1 + .5 * Q(2, -4), 0) = (1, 0), errors (.5, 1.5)."""
    new, _ = UPDATE(START._replace(target_actor=jnp.asarray(-2.0)), batch())
    np.testing.assert_allclose(new.critic.params, [1 - 0.1 * 1.75, 0.5 + 0.1 * 0.5], rtol=1e-6)


def test_targets_equal_to_the_networks_at_tau_1():
    sharp = ddpg.DDPGConfig(gamma=0.5, tau=1.0)
    new, _ = jax.jit(ddpg.make_update(actor, critic, SGD, sharp))(START, batch())
    np.testing.assert_array_equal(new.target_actor, new.actor.params)
    np.testing.assert_array_equal(new.target_critic, new.critic.params)


def test_it_finds_the_gain_of_the_riccati_equation():
    """s' = s + a, r = -(s^2 + a^2): V = -p s^2 with p = 1 + gamma p / (1 + gamma p), and the best
    action is -gamma p / (1 + gamma p) s; Q is quadratic, so the critic can be exact."""
    gamma = 0.9
    p = 1.0
    for _ in range(200):
        p = 1 + gamma * p / (1 + gamma * p)

    def quadratic(params, observations, actions):
        s, a = observations[..., 0], actions[..., 0]
        return jnp.stack([s * s, s * a, a * a], axis=-1) @ params

    optimizer = optax.adam(0.02)
    update = ddpg.make_update(actor, quadratic, optimizer, ddpg.DDPGConfig(gamma=gamma, tau=0.05))
    s, a = jax.random.uniform(jax.random.key(0), (2, 64, 1), minval=-1.0)
    rows = ddpg.ControlTransitions(s, a, -((s**2 + a**2)[:, 0]), jnp.ones(64), s + a)
    start = ddpg.init_ddpg(jnp.zeros(()), jnp.zeros(3), optimizer)
    run = jax.jit(lambda state: jax.lax.fori_loop(0, 2000, lambda _, s: update(s, rows)[0], state))
    state = run(start)
    assert float(state.actor.params) == pytest.approx(-gamma * p / (1 + gamma * p), abs=2e-3)
    exact = [-1 - gamma * p, -2 * gamma * p, -1 - gamma * p]
    np.testing.assert_allclose(state.critic.params, exact, atol=1e-2)


def test_exploration_is_gaussian_and_stays_within_the_limit():
    actions = jnp.zeros((20_000, 1))
    noisy = ddpg.noisy_actions(jax.random.key(0), actions, std=0.3, limit=2.0)
    assert float(noisy.std()) == pytest.approx(0.3, abs=0.01)
    edge = ddpg.noisy_actions(jax.random.key(0), actions + 2.0, std=0.3, limit=2.0)
    assert float(edge.max()) == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 1.0}, r"gamma must be in \[0, 1\)"),
        ({"tau": 0.0}, r"tau must be in \(0, 1\]"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        ddpg.DDPGConfig(**change)


def test_a_network_by_hand_and_its_bad_sizes():
    net = make_mlp((2, 2, 1))
    params = (
        {"weight": jnp.array([[1.0, -1.0], [1.0, 1.0]]), "bias": jnp.array([0.0, 1.0])},
        {"weight": jnp.array([[2.0], [3.0]]), "bias": jnp.array([0.5])},
    )
    # (1, -3): hidden (-2, -3) -> 0, output 0.5; (1, 1): hidden (2, 1), output 7.5.
    np.testing.assert_allclose(
        net.apply(params, jnp.array([[1.0, -3.0], [1.0, 1.0]])), [[0.5], [7.5]]
    )
    shapes = [layer["weight"].shape for layer in net.init(jax.random.key(0))]
    assert shapes == [(2, 2), (2, 1)]
    with pytest.raises(ValueError, match="sizes must be at least two widths"):
        make_mlp((3,))
