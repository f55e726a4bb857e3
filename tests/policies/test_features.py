"""Bottleneck reward models: golden numbers, Bradley-Terry as a special case, no gradient in v."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax import bradley_terry_loss
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.reward_model import make_update
from rlhf_jax.models import TransformerConfig, make_reward_model
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.policies.features import (
    FeatureFn,
    bottleneck_reward,
    bounded_reward,
    given_features,
    mean_weights,
    model_features,
)
from rlhf_jax.policies.language import language_inputs, language_reward
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.types import PreferenceBatch, Trajectory

LINEAR = bottleneck_reward(given_features, make_mlp((2, 1)))


def weights(*values: float, bias: float = 0.0):
    return ({"weight": jnp.array(values)[:, None], "bias": jnp.array([bias])},)


def drawn(shape, seed: int = 0):
    return jax.random.uniform(jax.random.key(seed), shape)


def pairs(rows: int = 40) -> PreferenceBatch:
    return PreferenceBatch(*(vector_trajectory(drawn((rows, 2), seed)) for seed in (1, 2)))


def test_golden_numbers():
    # scores 2 * 0.8 - 1 * 0.2 = 1.4 and 2 * 0.4 - 1 * 0.6 = 0.2; -log sigmoid(1.2) = 0.2632825
    chosen, rejected = (vector_trajectory(jnp.array([x])) for x in ([0.8, 0.2], [0.4, 0.6]))
    scores = [LINEAR.scores(weights(2.0, -1.0), x) for x in (chosen, rejected)]
    np.testing.assert_allclose(scores, [[1.4], [0.2]], rtol=1e-6)
    np.testing.assert_allclose(bradley_terry_loss(*scores), [0.2632825], rtol=1e-6)
    # sigmoid(1.4) = 0.8021839
    bounded = bounded_reward(LINEAR).scores(weights(2.0, -1.0), chosen)
    np.testing.assert_allclose(bounded, [0.8021839], rtol=1e-6)


@pytest.mark.parametrize("x64", [False, True])
def test_one_layer_is_the_linear_reward_and_its_bias_cancels(x64):
    with jax.enable_x64(x64):
        batch, params = pairs(), jnp.array([1.5, -0.5])
        ours, linear = LINEAR, linear_reward(2)

        def loss(reward, params):
            return bradley_terry_loss(
                reward.scores(params, batch.chosen), reward.scores(params, batch.rejected)
            ).mean()

        found, grads = jax.value_and_grad(lambda p: loss(ours, weights(*p, bias=3.0)))(params)
        known, others = jax.value_and_grad(lambda p: loss(linear, p))(params)
        assert found.dtype == known.dtype
        np.testing.assert_allclose(found, known, rtol=1e-5)
        np.testing.assert_allclose(grads, others, rtol=1e-4)
        of_bias = jax.grad(lambda bias: loss(ours, weights(1.5, -0.5, bias=bias)))(3.0)
        np.testing.assert_allclose(of_bias, 0.0, atol=1e-6)


def test_the_loss_of_one_layer_is_convex():
    batch = pairs()

    def loss(params):
        scores = (LINEAR.scores(weights(*params), x) for x in (batch.chosen, batch.rejected))
        return bradley_terry_loss(*scores).mean()

    for seed in range(5):
        hessian = jax.hessian(loss)(10 * jax.random.normal(jax.random.key(seed), (2,)))
        assert np.linalg.eigvalsh(hessian).min() > -1e-6


def test_a_weight_is_the_log_odds_that_a_feature_adds():
    low, high = (vector_trajectory(jnp.array([[0.3, x]])) for x in (0.0, 1.0))
    params = weights(0.7, 1.9)
    odds = LINEAR.scores(params, high) - LINEAR.scores(params, low)
    np.testing.assert_allclose(odds, [1.9], rtol=1e-6)


def test_mean_weights_are_the_mean_of_the_features():
    rows = drawn((5, 7))
    reward = bottleneck_reward(given_features, make_mlp((7, 1)))
    scores = reward.scores(mean_weights(7), vector_trajectory(rows))
    np.testing.assert_allclose(scores, rows.mean(-1), rtol=1e-6)
    assert jax.tree.structure(mean_weights(7)) == jax.tree.structure(reward.init(jax.random.key(0)))


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_leading_axes_are_free(lead):
    reward = bottleneck_reward(given_features, make_mlp((7, 6, 4, 2, 1)))
    params, rows = reward.init(jax.random.key(0)), drawn((*lead, 7))
    scores = jax.jit(reward.scores)(params, vector_trajectory(rows))
    assert scores.shape == lead
    one = [reward.scores(params, vector_trajectory(row)) for row in rows.reshape(-1, 7)]
    np.testing.assert_allclose(scores.ravel(), one, rtol=1e-5, atol=1e-6)


def test_the_last_layer_is_linear():
    """Scores of both signs, and a gradient everywhere; the authors' code has a ReLU there."""
    reward = bottleneck_reward(given_features, make_mlp((7, 6, 4, 2, 1)))
    trajectory = vector_trajectory(drawn((50, 7)))
    params = reward.init(jax.random.key(3))
    last = {"weight": jnp.array([[1.0], [-1.0]]), "bias": jnp.array([-5.0])}
    params = (*params[:-1], last)
    assert float(reward.scores(params, trajectory).max()) < 0
    grads = jax.grad(lambda p: reward.scores(p, trajectory).sum())(params)
    np.testing.assert_allclose(grads[-1]["bias"], [50.0])


def test_no_gradient_flows_into_the_features():
    def scores(rows):
        return LINEAR.scores(weights(2.0, 1.0), vector_trajectory(rows)).sum()

    np.testing.assert_array_equal(jax.grad(scores)(drawn((3, 2))), np.zeros((3, 2)))


def test_an_update_finds_the_feature_that_decides():
    chosen, rejected = drawn((200, 2), 1), drawn((200, 2), 2)
    won = (chosen[:, :1] > rejected[:, :1]).astype(jnp.float32)
    batch = PreferenceBatch(
        vector_trajectory(won * chosen + (1 - won) * rejected),
        vector_trajectory(won * rejected + (1 - won) * chosen),
    )
    optimizer = optax.adam(0.1)
    update = jax.jit(make_update(LINEAR, optimizer))
    state = init_state(LINEAR.init(jax.random.key(0)), optimizer)
    for _ in range(100):
        state, metrics = update(state, batch)
    first, second = state.params[0]["weight"][:, 0]
    assert first > 5 * abs(second)
    total, weight = metrics["scores/accuracy"]
    assert total / weight > 0.97


# ---- A language model as the rater.


def language() -> tuple:
    """Two scorers, and four answers of at most three tokens."""
    model = make_reward_model(
        TransformerConfig(
            vocab_size=7, d_model=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=8
        )
    )
    keys = jax.random.split(jax.random.key(5))
    prompts, answers = (jax.random.randint(key, (4, 3), 1, 7) for key in keys)
    mask = jnp.arange(3) < jnp.array([3, 2, 1, 3])[:, None]
    inputs = language_inputs(prompts, jnp.ones_like(prompts, bool), answers, mask)
    reward = language_reward(model)
    scorers = {}
    for seed, name in enumerate(("relevance", "conciseness")):
        leaves, tree = jax.tree.flatten(reward.init(jax.random.key(seed)))
        noise = jax.random.split(jax.random.key(seed + 9), len(leaves))
        noisy = [x + jax.random.normal(k, x.shape) for x, k in zip(leaves, noise, strict=True)]
        scorers[name] = (reward, jax.tree.unflatten(tree, noisy))
    return scorers, Trajectory(inputs, answers, mask)


@pytest.mark.long
def test_frozen_language_models_are_features():
    scorers, trajectory = language()
    features = model_features(scorers)
    assert isinstance(features, FeatureFn)
    rows = features(trajectory)
    assert rows.shape == (4, 2)
    for column, (reward, params) in enumerate(scorers.values()):
        known = jax.nn.sigmoid(reward.scores(params, trajectory))
        np.testing.assert_allclose(rows[:, column], known, rtol=1e-5)
    reward = bottleneck_reward(features, make_mlp((2, 1)))
    scores = reward.scores(weights(2.0, -1.0), trajectory)
    np.testing.assert_allclose(scores, rows @ np.array([2.0, -1.0]), rtol=1e-5, atol=1e-6)
    padded = jnp.where(trajectory.mask, trajectory.actions, 0)
    same = reward.scores(weights(2.0, -1.0), replace(trajectory, actions=padded))
    np.testing.assert_allclose(same, scores, rtol=1e-5)


# ---- Bad input.


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="scorers must have at least one feature"):
        model_features({})
    with pytest.raises(ValueError, match="must have one output, it has 3"):
        bottleneck_reward(given_features, make_mlp((2, 3))).scores(
            make_mlp((2, 3)).init(jax.random.key(0)), vector_trajectory(drawn((4, 2)))
        )
    steps = Trajectory(drawn((4, 3, 2)), jnp.zeros((4, 3), int), jnp.ones((4, 3), bool))
    with pytest.raises(ValueError, match="are one step, got 3 steps"):
        given_features(steps)
