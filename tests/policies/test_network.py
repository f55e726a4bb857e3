"""Networks over observations: numbers by hand, every loss unchanged, padding, draws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax.algos import ppo, preference, reward_model, sft
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.certify import certify
from rlhf_jax.envs.pendulum import MAX_TORQUE, pendulum_env
from rlhf_jax.losses.preference import cpl_loss, dpo_loss, segment_advantages
from rlhf_jax.ops.gaussians import tanh_normal_logps
from rlhf_jax.policies.network import (
    Squash,
    network_action_value,
    network_policy,
    network_value,
    summed_reward,
    tanh_gaussian,
)
from rlhf_jax.sampling.episodes import sample_episode
from rlhf_jax.types import PreferenceBatch, Trajectory

B, T, D = 6, 5, 3
LIMIT = 2.0
NET = tanh_gaussian(D, 2, widths=(8,), squash=Squash(limit=LIMIT))
POLICIES = {"categorical": network_policy(D, 4, widths=(8,)), "tanh-Gaussian": NET.policy}
# Steps of norm 1e-3: slopes of a narrow density at far actions are in the thousands.
SGD = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
every_policy = pytest.mark.parametrize("name", POLICIES)


def segments(name, seed=0, rows=B):
    rng = np.random.default_rng(seed)
    mask = np.arange(T) < rng.integers(2, T + 1, (rows, 1))
    inputs = rng.standard_normal((rows, T, D)).astype(np.float32)
    whole, real = rng.integers(0, 4, (rows, T)), rng.uniform(-1.9, 1.9, (rows, T, 2))
    actions = whole if name == "categorical" else real.astype(np.float32)
    return Trajectory(*(jnp.asarray(x) for x in (inputs, actions, mask)))


def test_heads_by_hand():
    """One layer and no hidden one, so the outputs are the bias: m = (0.5, -1), h = (0, 10)."""
    net = tanh_gaussian(1, 2, widths=(), squash=Squash(limit=LIMIT, low=-3.0, high=1.0))
    bias = jnp.array([0.5, -1.0, 0.0, 10.0])
    params = ({"weight": jnp.zeros((1, 4)), "bias": bias},)
    actions = jnp.array([[[1.0, -0.5]]])
    # g = -3 + 4 sigmoid(2 h) = (-1, 1), and the log-variance is 2 g
    heads = jnp.array([[[0.5, -1.0]]]), jnp.array([[[-2.0, 2.0]]])
    expected = tanh_normal_logps(*heads, actions, limit=LIMIT)
    found = net.policy.logps(params, jnp.ones((1, 1, 1)), actions)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    middle, logp = net.middle(params, jax.random.key(0), jnp.ones(1))
    np.testing.assert_allclose(middle, LIMIT * np.tanh([0.5, -1.0]), rtol=1e-6)
    np.testing.assert_allclose(
        logp, net.policy.logps(params, jnp.ones((1, 1)), middle[None])[0], rtol=1e-5
    )


def test_a_categorical_policy_by_hand():
    policy = network_policy(1, 2, widths=())
    params = ({"weight": jnp.array([[2.0, 3.0]]), "bias": jnp.array([1.0, 0.0])},)
    logits = policy.logits(params, jnp.ones((1, 1)))
    np.testing.assert_array_equal(logits, [[3.0, 3.0]])
    logps = policy.logps(params, jnp.array([[0.0]]), jnp.array([1]))
    np.testing.assert_allclose(logps, [-1.3132617], rtol=1e-6)  # -log(1 + e)


def test_densities_integrate_to_one_over_actions():
    net = tanh_gaussian(D, 1, widths=(8,), squash=Squash(limit=LIMIT))
    params = random_params(net.policy.init)
    u, step = np.linspace(-6.0, 6.0, 2000, retstep=True)
    actions = jnp.asarray(LIMIT * np.tanh(u), jnp.float32)[:, None]
    inputs = jnp.broadcast_to(jnp.array([0.5, -1.0, 0.3]), (len(u), D))
    density = np.exp(np.asarray(net.policy.logps(params, inputs, actions), float))
    assert np.sum(density * LIMIT / np.cosh(u) ** 2) * step == pytest.approx(1.0, abs=2e-3)


def test_draws_have_the_log_probs_of_the_policy_and_its_density():
    params = random_params(NET.policy.init)
    inputs = jnp.broadcast_to(jnp.array([0.5, -1.0, 0.3]), (20_000, D))
    actions, logps = NET.draw(params, jax.random.key(3), inputs)
    np.testing.assert_array_equal(logps, NET.policy.logps(params, inputs, actions))
    assert float(jnp.max(jnp.abs(actions))) < LIMIT
    # The mean of q / p over draws from p is 1, within four standard errors.
    other = jax.tree.map(lambda x: 0.97 * x, params)
    ratios = np.exp(np.asarray(NET.policy.logps(other, inputs, actions) - logps))
    error = ratios.std() / np.sqrt(len(ratios))
    assert abs(ratios.mean() - 1.0) < 4 * error < 0.05
    assert ratios.std() > 0.01


def test_a_saturated_policy_draws_finite_log_probs():
    net = tanh_gaussian(1, 1, widths=(), squash=Squash(limit=LIMIT))
    params = ({"weight": jnp.zeros((1, 2)), "bias": jnp.array([30.0, -30.0])},)
    actions, logps = net.draw(params, jax.random.key(0), jnp.ones((7, 1)))
    assert np.isfinite(logps).all()
    np.testing.assert_allclose(actions, LIMIT, rtol=2e-5)


@pytest.mark.long
@every_policy
def test_dpo_and_cpl_train_it_through_the_update_of_preferences(name):
    policy = POLICIES[name]
    params = random_params(policy.init)
    pairs = PreferenceBatch(segments(name, 1), segments(name, 2))
    pairs = preference.attach_reference(policy, params, pairs)
    dpo = preference.make_update(policy, SGD, partial(dpo_loss, beta=0.1))
    state, metrics = jax.jit(dpo)(init_state(params, SGD), pairs)
    np.testing.assert_allclose(metrics["loss"].value(), np.log(2), rtol=1e-5)  # at the reference
    assert float(dpo(state, pairs)[1]["loss"].value()) < np.log(2)
    logps = partial(segment_advantages, alpha=0.1)
    cpl = preference.make_update(policy, SGD, cpl_loss, logps=logps, reference=False)
    state, first = jax.jit(cpl)(init_state(params, SGD), pairs)
    _, second = cpl(state, pairs)
    assert float(second["loss"].value()) < float(first["loss"].value())


@pytest.mark.long
@every_policy
def test_ppo_at_the_policy_that_sampled_is_reinforce(name):
    policy, value = POLICIES[name], network_value(D, widths=(8,))
    params = ppo.ActorCritic(random_params(policy.init), random_params(value.init, 5))
    trajectory = segments(name)
    old = policy.logps(params.policy, trajectory.inputs, trajectory.actions)
    values = value.values(params.value, trajectory.inputs)
    config = ppo.PPOConfig(beta=0.0, whiten_advantages=False, value_coef=0.0)
    scores = jnp.linspace(-1.0, 1.0, B)
    batch = ppo.make_batch(
        trajectory, scores, old_logps=old, ref_logps=old, old_values=values, config=config
    )
    objective = ppo.make_objective(policy, value, config)
    (loss, info), grads = jax.value_and_grad(
        lambda p: (lambda mean, more: (mean.value(), more))(*objective(p, batch)), has_aux=True
    )(params)
    assert float(info["kl/old"].value()) < 1e-10

    def reinforce(p):
        logps = policy.logps(p, trajectory.inputs, trajectory.actions)
        kept = jnp.where(trajectory.mask, -logps * batch.advantages, 0.0)
        return jnp.sum(kept) / jnp.sum(trajectory.mask)

    expected = jax.grad(reinforce)(params.policy)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), grads.policy, expected
    )
    assert np.isfinite(loss)


@every_policy
def test_the_layout_of_a_batch_never_matters(name):
    """Padding, order, splits and packing of sums over steps, of continuous actions too."""
    policy = POLICIES[name]
    objective = sft.make_objective(policy)
    params = random_params(policy.init)
    report = certify(objective, segments(name), params=params, meshes=((1, 1),), show=False)
    assert report.holds, report
    assert {"wide padding", "padding side", "packing"} <= set(report.deviations)


@every_policy
@pytest.mark.parametrize("x64", [False, True])
def test_leading_axes_are_free_and_float32_is_close_to_float64(name, x64):
    policy = POLICIES[name]
    params, trajectory = random_params(policy.init), segments(name)
    want = policy.logps(params, trajectory.inputs, trajectory.actions)
    one = policy.logps(params, trajectory.inputs[0], trajectory.actions[0])
    np.testing.assert_allclose(one, want[0], rtol=1e-5)
    assert want.shape == (B, T)
    with jax.enable_x64(x64):
        wide = jax.tree.map(
            lambda x: jnp.asarray(np.asarray(x), jnp.float64 if x64 else None), params
        )
        inputs = jnp.asarray(np.asarray(trajectory.inputs), float)
        actions = np.asarray(trajectory.actions)
        actions = jnp.asarray(actions, float if actions.dtype == np.float32 else actions.dtype)
        np.testing.assert_allclose(policy.logps(wide, inputs, actions), want, rtol=1e-4, atol=1e-4)


@every_policy
def test_permuted_steps_give_permuted_log_probs(name):
    policy, order = POLICIES[name], jnp.array([3, 0, 4, 1, 2])
    params, trajectory = random_params(policy.init), segments(name)
    want = policy.logps(params, trajectory.inputs, trajectory.actions)
    moved = policy.logps(params, trajectory.inputs[:, order], trajectory.actions[:, order])
    np.testing.assert_allclose(moved, want[:, order], rtol=1e-5)


def test_rewards_of_steps_add_up_over_counted_steps_and_reach_the_reward_model():
    steps = network_action_value(D, 2, widths=(8,), limit=LIMIT)
    params, trajectory = random_params(steps.init), segments("tanh-Gaussian")
    rewards = np.asarray(steps.values(params, trajectory.inputs, trajectory.actions))
    mask = np.asarray(trajectory.mask)
    np.testing.assert_allclose(
        summed_reward(steps).scores(params, trajectory), (rewards * mask).sum(-1), rtol=1e-5
    )
    scores = summed_reward(steps, gamma=0.5).scores(params, trajectory)
    np.testing.assert_allclose(scores, (rewards * mask) @ 0.5 ** np.arange(T), rtol=1e-5)
    # The network reads a / limit: twice the box and twice the actions are the same.
    wide = network_action_value(D, 2, widths=(8,), limit=2 * LIMIT)
    again = wide.values(params, trajectory.inputs, 2 * trajectory.actions)
    np.testing.assert_allclose(again, rewards, rtol=1e-6)
    pairs = PreferenceBatch(trajectory, segments("tanh-Gaussian", 2))
    update = reward_model.make_update(summed_reward(steps), SGD)
    state, first = update(init_state(params, SGD), pairs)
    assert float(update(state, pairs)[1]["loss"].value()) < float(first["loss"].value())


def test_values_by_hand():
    value = network_value(2, widths=())
    params = ({"weight": jnp.array([[1.0], [-2.0]]), "bias": jnp.array([0.5])},)
    np.testing.assert_array_equal(value.values(params, jnp.array([[3.0, 1.0]])), [1.5])


def test_it_acts_in_an_environment():
    net = tanh_gaussian(3, 1, widths=(8,), squash=Squash(limit=MAX_TORQUE))
    params = random_params(net.policy.init)
    act = partial(net.draw, params)
    episode = sample_episode(pendulum_env(), act, jax.random.key(0), steps=4)
    trajectory = episode.trajectory
    assert trajectory.actions.shape == (4, 1)
    again = net.policy.logps(params, trajectory.inputs, trajectory.actions)
    np.testing.assert_allclose(episode.token_logps, again, rtol=1e-5)


def test_what_is_wrong_is_named():
    with pytest.raises(TypeError, match="continuous actions has no logits"):
        NET.policy.logits(NET.policy.init(jax.random.key(0)), jnp.zeros((1, D)))
    with pytest.raises(AssertionError):
        NET.policy.logps(NET.policy.init(jax.random.key(0)), jnp.zeros((1, D)), jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match="low must be below high"):
        Squash(low=1.0, high=1.0)
    with pytest.raises(ValueError, match=r"limit must be in \(0, inf\)"):
        Squash(limit=0.0)
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\]"):
        summed_reward(network_action_value(1, 1), gamma=2.0)
