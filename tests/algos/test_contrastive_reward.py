"""A reward model with a contrastive term: its parts, its limits, and a tiny transformer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import contrastive_reward, reward_model
from rlhf_jax.algos.contrastive_reward import ContrastiveBatch, ContrastiveParams, whole_reward
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.preference import kept_columns
from rlhf_jax.algos.reward_model import scored_objective
from rlhf_jax.losses.contrastive import difference_items, pair_items, simcse_loss, swav_loss
from rlhf_jax.losses.reward import margin_bradley_terry_loss, soft_margin_bradley_terry_loss
from rlhf_jax.models import TransformerConfig, make_reward_model, make_reward_parts
from rlhf_jax.ops.features import drop_features
from rlhf_jax.policies.language import language_features, language_reward, language_trajectory
from rlhf_jax.types import FeatureReward, PreferenceBatch, Trajectory

SGD = optax.sgd(1.0)
SIMCSE, SWAV = partial(simcse_loss, temperature=0.5), partial(swav_loss, temperature=0.5)
ROWS, WIDTH = 6, 5


def feature_model(rate):
    def features(params, trajectory, key):
        return drop_features(jnp.tanh(trajectory.inputs @ params["weight"]), key, rate=rate)

    return FeatureReward(lambda key: None, features, lambda params, h: h @ params["head"])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def pairs(**more):
    mask = jnp.ones((ROWS, 1), bool)
    sides = (Trajectory(normal(ROWS, 3, seed=i), None, mask) for i in (1, 2))
    return PreferenceBatch(*sides, **more)


PARAMS = {"weight": normal(3, WIDTH, seed=3), "head": normal(WIDTH, seed=4)}
PROTOTYPES = normal(3, WIDTH, seed=5)


def step(model, batch, prototypes=None, key=0, **options):
    update = jax.jit(contrastive_reward.make_update(model, SGD, **options))
    state = init_state(ContrastiveParams(PARAMS, prototypes), SGD)
    return update(state, ContrastiveBatch(batch, jax.random.key(key)))


@pytest.mark.parametrize("items", [pair_items, difference_items])
@pytest.mark.parametrize("contrast", [SIMCSE, SWAV])
def test_the_loss_is_the_sum_of_its_parts(contrast, items):
    """Without dropout both views are the features themselves."""
    batch, model = pairs(), feature_model(0.0)
    prototypes = PROTOTYPES if contrast is SWAV else None
    _, metrics = step(model, batch, prototypes, contrast=contrast, weight=0.7, items=items)
    sides = [model.features(PARAMS, side, None) for side in (batch.chosen, batch.rejected)]
    shown, extra = items(*sides), () if prototypes is None else (prototypes,)
    term = jnp.mean(contrast(shown, shown, *extra))
    plain, _ = reward_model.make_objective(whole_reward(model))(PARAMS, batch)
    np.testing.assert_allclose(metrics["contrast"].value(), term, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"].value(), plain.value() + 0.7 * term, rtol=1e-5)


def test_weight_zero_without_dropout_is_the_reward_model():
    batch, model = pairs(), feature_model(0.0)
    state, metrics = step(model, batch, contrast=SIMCSE, weight=0.0)
    plain = reward_model.make_update(whole_reward(model), SGD)
    other, plain_metrics = plain(init_state(PARAMS, SGD), batch)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, state.params.reward, other.params)
    for name, value in plain_metrics.items():
        close(metrics[name], value)


def test_prototypes_are_trained_and_another_key_is_another_view():
    batch, model = pairs(), feature_model(0.3)
    options = {"contrast": SWAV, "weight": 1.0}
    state, _ = step(model, batch, PROTOTYPES, **options)
    other, _ = step(model, batch, PROTOTYPES, key=1, **options)
    assert float(jnp.min(jnp.max(jnp.abs(state.params.prototypes - PROTOTYPES), -1))) > 0
    assert not np.allclose(state.params.reward["head"], other.params.reward["head"])


def test_the_columns_of_the_pairs_reach_the_reward_loss():
    gaps = jnp.linspace(-1.0, 1.0, ROWS)
    batch = pairs(columns={"prefs": jnp.full(ROWS, 0.7), "gaps": gaps})
    model, loss = feature_model(0.0), soft_margin_bradley_terry_loss
    _, metrics = step(model, batch, contrast=SIMCSE, weight=0.0, loss=loss)
    scores = (whole_reward(model).scores(PARAMS, x) for x in (batch.chosen, batch.rejected))
    expected = jnp.mean(loss(*scores, jnp.full(ROWS, 0.7), gaps))
    np.testing.assert_allclose(metrics["loss"].value(), expected, rtol=1e-5)


def test_columns_are_zero_where_the_weight_is_and_scores_make_the_objective():
    weights, gaps = jnp.array([1.0, 0.0, 1.0, 1.0, 1.0, 2.0]), jnp.linspace(1.0, 2.0, ROWS)
    batch = pairs(weights=weights, columns={"gaps": gaps})
    np.testing.assert_array_equal(kept_columns(batch)["gaps"], jnp.where(weights > 0, gaps, 0.0))
    assert kept_columns(pairs()) == {}
    reward, loss = whole_reward(feature_model(0.0)), margin_bradley_terry_loss
    scores = [reward.scores(PARAMS, x) for x in (batch.chosen, batch.rejected)]
    found, _ = scored_objective(*scores, batch, loss=loss)
    # Means by weight, here written out.
    expected = jnp.sum(weights * loss(*scores, gaps)) / 6.0
    np.testing.assert_allclose(found.value(), expected, rtol=1e-6)


def test_pairs_of_weight_zero_are_no_items():
    weights = jnp.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    batch, model = pairs(weights=weights), feature_model(0.0)
    rows = np.flatnonzero(np.asarray(weights))
    kept = jax.tree.map(lambda x: x[rows], batch)
    states = [step(model, each, contrast=SIMCSE, weight=1.0)[0] for each in (batch, kept)]
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, states[0].params, states[1].params)


# ---- A tiny transformer.

CONFIG = TransformerConfig(
    vocab_size=11, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=16
)
PARTS = make_reward_parts(CONFIG)


def texts(seed, rows=4):
    rng = np.random.default_rng(seed)
    prompt, answer = (jnp.asarray(rng.integers(1, 11, (rows, size))) for size in (3, 4))
    mask = jnp.asarray(np.arange(4) < rng.integers(1, 5, (rows, 1)))
    return language_trajectory(prompt, jnp.ones(prompt.shape, bool), answer, mask)


@pytest.mark.long
def test_a_language_model_in_two_parts_is_the_same_model():
    params = PARTS.init(jax.random.key(0))
    whole = language_reward(make_reward_model(CONFIG))
    jax.tree.map(np.testing.assert_array_equal, params, whole.init(jax.random.key(0)))
    model, shown = language_features(PARTS, dropout=0.05), texts(0)
    features = model.features(params, shown, None)
    assert features.shape == (4, 16)
    np.testing.assert_allclose(
        model.head(params, features), whole.scores(params, shown), rtol=1e-5, atol=1e-6
    )
    padded = language_trajectory(
        shown.inputs.ids[:, :3],
        jnp.ones((4, 3), bool),
        jnp.pad(shown.actions, ((0, 0), (0, 2)), constant_values=7),
        jnp.pad(shown.mask, ((0, 0), (0, 2))),
    )
    np.testing.assert_allclose(model.features(params, padded, None), features, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("contrast", [SIMCSE, SWAV])
def test_a_language_model_learns_with_both_terms(contrast):
    model, optimizer = language_features(PARTS, dropout=0.05), optax.adam(1e-2)
    update = jax.jit(
        contrastive_reward.make_update(model, optimizer, contrast=contrast, weight=0.1)
    )
    prototypes = normal(3, 16) if contrast is SWAV else None
    params = ContrastiveParams(model.init(jax.random.key(0)), prototypes)
    state, batch, losses = init_state(params, optimizer), PreferenceBatch(texts(0), texts(1)), []
    for i in range(20):
        shown = ContrastiveBatch(batch, jax.random.fold_in(jax.random.key(1), i))
        state, metrics = update(state, shown)
        losses.append(float(metrics["loss"]))
    assert float(metrics["scores/accuracy"]) == 1.0
    assert losses[-1] < losses[0]
