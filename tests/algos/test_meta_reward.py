"""MetaRM: Algorithm 1 by hand, its first order, eta = 0, and a tiny transformer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import meta_reward, reward_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.meta_reward import MetaBatch, mean_spread
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.models import TransformerConfig, make_reward_model
from rlhf_jax.policies.language import language_reward, language_trajectory
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.types import PreferenceBatch, RewardFn, Trajectory

SGD = optax.sgd(1.0)
LINEAR = linear_reward(3)


def answers(items):
    """Vectors [*B, d] as answers of one step."""
    return Trajectory(items[..., None, :], None, jnp.ones((*items.shape[:-1], 1), bool))


def drawn(seed=0, pairs=6, prompts=5, count=4, size=3):
    rng = np.random.default_rng(seed)
    sides = [answers(jnp.asarray(rng.standard_normal((pairs, size)))) for _ in range(2)]
    items = jnp.asarray(rng.standard_normal((prompts, count, size)))
    return MetaBatch(PreferenceBatch(*sides), answers(items))


def bent_reward():
    """A reward that is not linear in its params, so that both Hessians count."""

    def scores(params, trajectory):
        return jnp.tanh(trajectory.inputs[..., 0, :] @ params["weight"]) @ params["head"]

    return RewardFn(lambda key: None, scores)


BENT = bent_reward()


def bent_params():
    rng = np.random.default_rng(3)
    return {
        "weight": jnp.asarray(rng.standard_normal((3, 5))),
        "head": jnp.asarray(rng.standard_normal(5)),
    }


def mean_loss(reward, params, pairs):
    scores = (reward.scores(params, side) for side in (pairs.chosen, pairs.rejected))
    return jnp.mean(bradley_terry_loss(*scores))


def test_golden_numbers():
    # One weight w = 1; answers 0 and 1: J = 2 / 4 sigmoid(|w|), slope sigmoid'(1) / 2 = 0.0983060.
    # eta = 2: w' = 1.1966119. Pair 1 over 0: dL/dw = -sigmoid(-w') = -0.2320785. w = 1.2320785.
    reward = linear_reward(1)
    pairs = PreferenceBatch(answers(jnp.ones((1, 1))), answers(jnp.zeros((1, 1))))
    batch = MetaBatch(pairs, answers(jnp.array([[[0.0], [1.0]]])))
    update = meta_reward.make_update(reward, SGD, eta=2.0)
    state, metrics = jax.jit(update)(init_state(jnp.ones(1), SGD), batch)
    np.testing.assert_allclose(metrics["spread"].value(), 0.3655293, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"].value(), np.log1p(np.exp(-1.1966119)), rtol=1e-6)
    np.testing.assert_allclose(state.params, [1.0 + 1 / (1 + np.exp(1.1966119))], rtol=1e-6)


def test_eta_zero_is_the_reward_model_bit_for_bit():
    batch = drawn()
    params = jnp.asarray(np.random.default_rng(1).standard_normal(3), jnp.float32)
    optimizer = optax.adam(0.1)
    plain = jax.jit(reward_model.make_update(LINEAR, optimizer))
    meta = jax.jit(meta_reward.make_update(LINEAR, optimizer, eta=0.0))
    one = other = init_state(params, optimizer)
    for _ in range(5):
        one, metrics = plain(one, batch.pairs)
        other, meta_metrics = meta(other, batch)
    np.testing.assert_array_equal(one.params, other.params)
    for name, value in metrics.items():
        np.testing.assert_array_equal(value, meta_metrics[name])


@pytest.mark.long
def test_the_step_is_that_of_algorithm_1():
    """The slope at theta', subtracted from theta; not from theta', not through the ascent."""
    with jax.enable_x64(True):
        batch, params = drawn(), bent_params()
        update = meta_reward.make_update(BENT, SGD, eta=0.5)
        state, _ = jax.jit(update)(init_state(params, SGD), batch)
        spread = partial(mean_spread, BENT)
        ascent = jax.grad(spread)(params, batch.answers)
        ahead = jax.tree.map(lambda x, g: x + 0.5 * g, params, ascent)
        slope = jax.grad(partial(mean_loss, BENT))(ahead, batch.pairs)
        expected = jax.tree.map(jnp.subtract, params, slope)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10), state.params, expected)


def first_order(eta):
    """Params, their loss and spread as functions, what a step at eta subtracts, its metrics."""
    batch, params = drawn(), bent_params()
    loss = partial(mean_loss, BENT, pairs=batch.pairs)
    spread = partial(mean_spread, BENT, answers=batch.answers)
    update = meta_reward.make_update(BENT, SGD, eta=eta)
    state, metrics = jax.jit(update)(init_state(params, SGD), batch)
    done = jax.tree.map(jnp.subtract, params, state.params)
    return params, loss, spread, done, metrics


def test_first_order_of_the_loss():
    """L(theta') - L = eta <gL, gJ> within 1% at eta = 0.01."""
    with jax.enable_x64(True):
        params, loss, spread, _, metrics = first_order(1e-2)
        inner = optax.tree.vdot(jax.grad(loss)(params), jax.grad(spread)(params))
        ratio = (metrics["loss"].value() - loss(params)) / (1e-2 * inner)
        np.testing.assert_allclose(ratio, 1.0, rtol=0.01)


def test_first_order_of_the_step():
    """It is gL + eta H_L gJ; eta H_J gL, which is not small here, is left out."""
    with jax.enable_x64(True):
        params, loss, spread, done, _ = first_order(1e-4)
        slope, ascent = jax.grad(loss)(params), jax.grad(spread)(params)
        extra = jax.tree.map(lambda x, y: (x - y) / 1e-4, done, slope)
        bent = jax.jvp(jax.grad(loss), (params,), (ascent,))[1]
        left_out = jax.jvp(jax.grad(spread), (params,), (slope,))[1]
        norm = optax.tree.norm
        assert norm(jax.tree.map(jnp.subtract, extra, bent)) < 1e-2 * norm(bent)
        assert norm(left_out) > 0.05 * norm(bent)


@pytest.mark.long
def test_micro_batches_are_the_same_step():
    batch, params = drawn(), jnp.ones(3)
    states = [
        meta_reward.make_update(LINEAR, SGD, eta=1.0, parts=parts)(init_state(params, SGD), batch)[
            0
        ]
        for parts in (1, 3)
    ]
    np.testing.assert_allclose(states[0].params, states[1].params, rtol=1e-5)


def test_pairs_of_weight_zero_never_matter():
    batch, weights = drawn(), jnp.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    chosen, rejected = batch.pairs.chosen, batch.pairs.rejected
    spoiled = jnp.where((weights > 0)[:, None, None], chosen.inputs, 1e6)
    update = meta_reward.make_update(LINEAR, SGD, eta=1.0)
    both = [
        update(
            init_state(jnp.ones(3), SGD),
            MetaBatch(
                PreferenceBatch(Trajectory(items, None, chosen.mask), rejected, weights=weights),
                batch.answers,
            ),
        )[0].params
        for items in (chosen.inputs, spoiled)
    ]
    np.testing.assert_array_equal(*both)


def test_one_answer_to_a_prompt_is_named():
    batch = drawn(count=1)
    update = meta_reward.make_update(LINEAR, SGD, eta=1.0)
    with pytest.raises(ValueError, match=r"K >= 2, got \[5, 1\]"):
        update(init_state(jnp.ones(3), SGD), batch)


def test_eta_can_be_swept_by_vmap():
    batch, params = drawn(), jnp.ones(3)

    def step(eta):
        update = meta_reward.make_update(LINEAR, SGD, eta=eta)
        return update(init_state(params, SGD), batch)[0].params

    found = jax.vmap(step)(jnp.array([0.0, 3.0]))
    np.testing.assert_allclose(found[1], step(3.0), rtol=1e-5)
    assert not np.allclose(found[0], found[1])


@pytest.mark.long
def test_a_tiny_transformer_takes_the_step():
    config = TransformerConfig(
        vocab_size=11, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=16
    )
    reward = language_reward(make_reward_model(config))
    rng = np.random.default_rng(0)

    def texts(*lead):
        prompt, answer = (jnp.asarray(rng.integers(1, 11, (*lead, size))) for size in (3, 4))
        lengths = rng.integers(1, 5, (*lead, 1))
        prompt_mask = jnp.ones(prompt.shape, bool)
        return language_trajectory(prompt, prompt_mask, answer, jnp.asarray(np.arange(4) < lengths))

    batch = MetaBatch(PreferenceBatch(texts(4), texts(4)), texts(3, 2))
    optimizer = optax.adam(1e-2)
    update = jax.jit(meta_reward.make_update(reward, optimizer, eta=0.1))
    state = init_state(reward.init(jax.random.key(0)), optimizer)
    losses = []
    for _ in range(20):
        state, metrics = update(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert 0.25 <= float(metrics["spread"]) < 0.5  # k = 2
