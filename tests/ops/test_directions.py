"""Directions by hand, and the exact facts of policies that read them."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.ops.directions import (
    check_directions,
    directed_features,
    draw_directions,
    scalarise,
    unit_directions,
)
from rlhf_jax.ops.statistics import best_of_n_kl
from rlhf_jax.policies.latent import latent_policy
from rlhf_jax.policies.linear import linear_policy
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import with_latents

precisions = pytest.mark.parametrize("x64", [False, True], ids=["float32", "x64"])


@pytest.fixture(autouse=True)
def precision(request):
    """float64, in which exact facts hold to 1e-9, where a test does not say otherwise."""
    given = getattr(request.node, "callspec", None)
    with jax.enable_x64(given is None or given.params.get("x64", True)):
        yield


@precisions
def test_golden_numbers(x64):
    angles = jnp.array([0.0, np.pi / 2, -np.pi / 6])
    want = [[1.0, 0.0], [0.0, 1.0], [3**0.5 / 2, -0.5]]
    np.testing.assert_allclose(unit_directions(angles), want, atol=1e-6)
    # 0.6 * 10 + 0.8 * 5 = 10 and 0.6 * 0 - 0.8 * 5 = -4; 1 * 2 and 1 * 3
    rewards = jnp.array([[[10.0, 5.0], [0.0, -5.0]], [[2.0, 9.0], [3.0, 9.0]]])
    directions = jnp.array([[0.6, 0.8], [1.0, 0.0]])
    found = scalarise(rewards, directions)
    np.testing.assert_allclose(found, [[10.0, -4.0], [2.0, 3.0]], rtol=1e-6)
    assert found.dtype == (jnp.float64 if x64 else jnp.float32)


@precisions
def test_leading_axes_jit_and_gradients(x64):
    rewards = jax.random.normal(jax.random.key(0), (3, 2, 5, 2))
    directions = draw_directions(jax.random.key(1), (3, 2), low=-0.8, high=0.8)
    whole = scalarise(rewards, directions)
    for one in (jax.vmap(scalarise), jax.jit(scalarise), jax.jit(jax.vmap(scalarise))):
        np.testing.assert_allclose(one(rewards, directions), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(whole[1, 0], scalarise(rewards[1, 0], directions[1, 0]))
    slope = jax.grad(lambda r: scalarise(r, directions).sum())(rewards)
    np.testing.assert_allclose(
        slope, jnp.broadcast_to(directions[:, :, None], rewards.shape), rtol=1e-6
    )


def test_a_missing_reward_leaves_the_answer_out():
    rewards = jnp.array([[1.0, jnp.nan], [1.0, 2.0]])
    found = scalarise(rewards, jnp.array([1.0, 0.0]))
    np.testing.assert_array_equal(found, [jnp.nan, 1.0])


def test_drawn_angles_fill_the_range():
    drawn = draw_directions(jax.random.key(0), (4000,), low=-np.pi / 4, high=np.pi / 4)
    angles = np.degrees(np.arctan2(drawn[:, 1], drawn[:, 0]))
    assert angles.min() >= -45
    assert angles.max() <= 45
    shares = np.histogram(angles, bins=9, range=(-45, 45))[0] / 4000
    np.testing.assert_allclose(shares, 1 / 9, atol=0.02)  # four standard errors
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        (np.array([1.0, 1.0]), r"the length of directions must be in \[0.999, 1.001\], got 1.41"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), "the length of directions must be .* at \\[1\\]"),
        (np.array([np.nan, 1.0]), "the length of directions must be"),
        (np.array([1.0, 0.0, 0.0]), "one entry for each of 2 rewards, got 3"),
        (np.array([1.0]), "one entry for each of 2 rewards, got 1"),
        (np.float64(1.0), "one entry for each of 2 rewards, got a number"),
    ],
)
def test_what_is_no_direction_is_named(directions, message):
    with pytest.raises(ValueError, match=message):
        check_directions(directions, rewards=2)
    if np.ndim(directions):
        with pytest.raises((ValueError, jaxtyping.TypeCheckError)):
            scalarise(jnp.zeros((*directions.shape[:-1], 4, 2)), jnp.asarray(directions))


def test_a_wrong_length_is_named_while_tracing():
    with pytest.raises(ValueError, match="one entry for each of 3 rewards, got 2"):
        jax.eval_shape(partial(check_directions, rewards=3), jnp.ones((5, 2)))
    for rewards in (jnp.zeros((5, 4, 3)), jnp.zeros((4, 3, 2))):
        with pytest.raises((ValueError, jaxtyping.TypeCheckError)):
            jax.jit(scalarise)(rewards, unit_directions(jnp.zeros(5)))
    with pytest.raises(ValueError, match=r"low must be in \(-inf, inf\)"):
        draw_directions(jax.random.key(0), (2,), low=jnp.nan, high=1.0)


def bandit(key=0, states=3, answers=5):
    """rewards [S, A, 2], reference logits [S, A]."""
    keys = jax.random.split(jax.random.key(key))
    return jax.random.normal(keys[0], (states, answers, 2)), jax.random.normal(keys[1], (3, 5))


@pytest.mark.parametrize("angle", [-45.0, 0.0, 20.0, 45.0])
def test_the_optimum_of_every_direction_is_one_policy_with_logits_linear_in_it(angle):
    """Property 1: theta_0 = log pi_0 and theta_i = r_i / beta, on a table."""
    rewards, ref_logits = bandit()
    policy = latent_policy(tabular_policy(3, 5), latent_dim=2)
    params = {"base": ref_logits, "directions": jnp.moveaxis(rewards, -1, 0) / 0.7}
    direction = unit_directions(jnp.radians(angle))
    states = with_latents(bandit_trajectory(jnp.arange(3), jnp.zeros(3, int)), direction).inputs
    found = jax.nn.log_softmax(policy.logits(params, states)[:, 0])
    worth = scalarise(rewards, jnp.broadcast_to(direction, (3, 2)))
    np.testing.assert_allclose(found, regularised_optimum(worth, ref_logits, beta=0.7), atol=1e-12)


def test_the_component_along_the_tangent_grows_by_its_variance():
    """Property 3: d/da E[r . v'] = Var(r . v') / beta."""
    rewards, ref_logits = bandit()
    beta, angle = 0.7, jnp.asarray(0.3)

    def probs(a):
        worth = scalarise(rewards, jnp.broadcast_to(unit_directions(a), (3, 2)))
        return jnp.exp(regularised_optimum(worth, ref_logits, beta=beta))

    tangent = rewards @ unit_directions(angle + jnp.pi / 2)
    slope = jax.jacobian(lambda a: jnp.sum(probs(a) * tangent, -1))(angle)
    p = probs(angle)
    variance = jnp.sum(p * tangent**2, -1) - jnp.sum(p * tangent, -1) ** 2
    np.testing.assert_allclose(slope, variance / beta, rtol=1e-10)
    assert (slope > 0).all()


def test_the_optimum_of_a_direction_is_best_for_it():
    """Property 2, with the KL: J_v(pi_v) >= J_v(pi_w)."""
    rewards, ref_logits = bandit()
    directions = unit_directions(jnp.radians(jnp.arange(-45.0, 46.0, 15.0)))
    worth = jnp.einsum("saj,ij->isa", rewards, directions)
    logps = jax.vmap(partial(regularised_optimum, beta=0.7), (0, None))(worth, ref_logits)
    kl = jnp.sum(jnp.exp(logps) * (logps - jax.nn.log_softmax(ref_logits)), -1)
    values = jnp.einsum("isa,jsa->ijs", jnp.exp(logps), worth) - 0.7 * kl[:, None]
    gaps = jnp.einsum("iis->is", values)[None] - values
    assert (gaps >= -1e-12).all()
    assert (gaps[0, 1] > 0.001).all()


def enumerated_best(probs, worth, samples):
    """The law of the best of some draws, over all tuples of answers; ties to the first draw."""
    law = np.zeros_like(probs)
    for drawn in product(range(len(probs)), repeat=samples):
        law[drawn[int(np.argmax(worth[list(drawn)]))]] += np.prod(probs[list(drawn)])
    return law


def test_rounds_of_best_of_n_are_one_of_a_power():
    """Property 5: two rounds of 2 are one of 4, and cost at most 2 log 2 - 1 + 1/4 nats."""
    rewards, ref_logits = bandit(answers=5)
    direction = unit_directions(jnp.asarray(0.4))
    worth = np.asarray(scalarise(rewards[0], direction))
    first = np.asarray(jax.nn.softmax(ref_logits[0]))
    twice = enumerated_best(enumerated_best(first, worth, 2), worth, 2)
    np.testing.assert_allclose(twice, enumerated_best(first, worth, 4), atol=1e-12)
    order = np.argsort(worth)
    below = np.cumsum(first[order])
    np.testing.assert_allclose(twice[order], np.diff(below**4, prepend=0.0), atol=1e-12)
    kl = np.sum(twice * np.log(twice / first))
    assert 0 < kl <= float(best_of_n_kl(jnp.asarray(4))) <= 2 * np.log(2) - 1 + 0.25 + 1e-6


def test_only_the_order_under_a_direction_counts():
    """Property 4: all rewards times a number change nothing, one of them does; k = 1 is RAFT."""
    rewards = jax.random.normal(jax.random.key(3), (200, 8, 2))
    directions = draw_directions(jax.random.key(4), (200,), low=-0.7, high=0.7)

    def chosen(r):
        return np.asarray(jnp.argmax(scalarise(r, directions), axis=-1))

    np.testing.assert_array_equal(chosen(7.0 * rewards), chosen(rewards))
    np.testing.assert_array_equal(chosen(rewards + jnp.array([5.0, -2.0])), chosen(rewards))
    assert (chosen(rewards * jnp.array([1.0, 7.0])) != chosen(rewards)).mean() > 0.2
    single = scalarise(rewards[..., :1], jnp.ones((200, 1)))
    np.testing.assert_array_equal(single, rewards[..., 0])


@precisions
def test_directed_features_are_a_latent_policy(x64):
    features = jax.random.normal(jax.random.key(0), (6, 4, 3))
    directions = draw_directions(jax.random.key(1), (6,), low=-0.7, high=0.7)
    thetas = jax.random.normal(jax.random.key(2), (3, 3))
    plain = linear_policy(directed_features(features, directions))
    states = jnp.arange(6)[:, None]
    found = plain.logits(thetas.reshape(-1), states)
    latent = latent_policy(linear_policy(features), latent_dim=2)
    params = {"base": thetas[0], "directions": thetas[1:]}
    inputs = with_latents(bandit_trajectory(jnp.arange(6), jnp.zeros(6, int)), directions).inputs
    np.testing.assert_allclose(found, latent.logits(params, inputs), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="the length of directions"):
        directed_features(features, 2 * directions)
