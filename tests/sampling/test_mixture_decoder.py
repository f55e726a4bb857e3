"""Draws from mixtures of two language models, and draws as the methods ask for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import language_decoder, language_policy, mixture_decoder
from rlhf_jax.policies.linear import linear_policy
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sampling.draws import language_draw, mixture_policy, policy_draw
from rlhf_jax.types import Prompts

MODEL = make_transformer(
    TransformerConfig(
        vocab_size=11, d_model=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=24
    )
)
POLICY, DECODER = language_policy(MODEL), language_decoder(MODEL)
P, T, ROWS, SAMPLES = 5, 6, 4, 3
KEY = jax.random.key(3)
CONFIG = SamplingConfig(max_new_tokens=T, stop_ids=(2, 9))
PARAMS, REF = random_params(POLICY.init, seed=5), random_params(POLICY.init, seed=8)
LOGITS = jax.jit(POLICY.logits)
DRAW = language_draw(DECODER, CONFIG)


def prompts():
    rng = np.random.default_rng(0)
    mask = np.arange(P) >= P - rng.integers(1, P + 1, ROWS)[:, None]
    ids = np.where(mask, rng.integers(1, 11, (ROWS, P)), 0)
    return Prompts((ids, mask), np.arange(ROWS) + 40)


@jax.jit
def mixed(weight, ids_and_mask):
    """Answers of the mixture; one compilation for all weights."""
    draw = language_draw(mixture_decoder(DECODER, weight=weight), CONFIG)
    return draw((PARAMS, REF), Prompts(ids_and_mask, prompts().indices), KEY, SAMPLES)


def assert_same(got, want, atol=0.0):
    np.testing.assert_array_equal(got.trajectory.actions, want.trajectory.actions)
    np.testing.assert_array_equal(got.trajectory.mask, want.trajectory.mask)
    np.testing.assert_array_equal(got.finished, want.finished)
    np.testing.assert_allclose(got.token_logps, want.token_logps, rtol=0, atol=atol)


@pytest.mark.long
@pytest.mark.parametrize(("weight", "params"), [(0, PARAMS), (1, REF)], ids=["policy", "reference"])
def test_at_its_ends_the_mixture_draws_what_each_policy_draws(weight, params):
    want = DRAW(params, prompts(), KEY, SAMPLES)
    assert_same(mixed(jnp.float32(weight), prompts().inputs), want)
    assert len(np.unique(np.asarray(want.trajectory.actions).reshape(-1, T), axis=0)) > ROWS


@pytest.mark.long
@pytest.mark.parametrize("weight", [0.25, 0.7])
def test_the_logps_are_those_of_the_mixed_logits(weight):
    rollout = mixed(jnp.float32(weight), prompts().inputs)
    trajectory = rollout.trajectory
    own, ref = (LOGITS(params, trajectory.inputs) for params in (PARAMS, REF))
    table = jax.nn.log_softmax((1 - weight) * own + weight * ref)
    want = jnp.take_along_axis(table, trajectory.actions[..., None], -1)[..., 0]
    want = jnp.where(trajectory.mask, want, 0.0)
    np.testing.assert_allclose(rollout.token_logps, want, atol=2e-5)
    np.testing.assert_allclose(rollout.sampling_token_logps, want, atol=2e-5)
    alone = jnp.take_along_axis(jax.nn.log_softmax(own), trajectory.actions[..., None], -1)[..., 0]
    assert np.max(np.abs(jnp.where(trajectory.mask, alone, 0.0) - want)) > 0.1


@pytest.mark.long
def test_a_known_weight_draws_what_a_traced_one_draws():
    known = language_draw(mixture_decoder(DECODER, weight=0.25), CONFIG)
    want = mixed(jnp.float32(0.25), prompts().inputs)
    assert_same(known((PARAMS, REF), prompts(), KEY, SAMPLES), want, atol=1e-5)


@pytest.mark.long
def test_left_padding_never_matters():
    ids, mask = prompts().inputs
    wide = np.pad(ids, ((0, 0), (3, 0)), constant_values=4), np.pad(mask, ((0, 0), (3, 0)))
    want = mixed(jnp.float32(0.4), prompts().inputs)
    assert_same(mixed(jnp.float32(0.4), wide), want, atol=1e-5)


@pytest.mark.long
def test_further_answers_are_the_rest_of_many():
    whole = DRAW(PARAMS, prompts(), KEY, SAMPLES)
    assert whole.trajectory.actions.shape == (ROWS, SAMPLES, T)
    more = DRAW(PARAMS, prompts(), KEY, 1, first=2)
    assert_same(more, jax.tree.map(lambda x: x[:, 2:], whole), atol=1e-5)


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_bad_weights_are_refused(weight):
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\]"):
        mixture_decoder(DECODER, weight=weight)
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\]"):
        mixture_policy(POLICY, weight=weight)


# ---- Tables and linear policies.

FEATURES = jax.random.normal(jax.random.key(1), (2, 3, 4))
TABLE, LINEAR = tabular_policy(2, 3), linear_policy(FEATURES)


@pytest.mark.long
def test_a_table_and_the_same_linear_policy_draw_the_same():
    params = jax.random.normal(jax.random.key(2), (4,))
    asked = Prompts(np.array([0, 1, 1, 0]), np.array([7, 8, 9, 7]))
    linear = policy_draw(LINEAR)(params, asked, KEY, 5)
    table = policy_draw(TABLE)(FEATURES @ params, asked, KEY, 5)
    assert table.trajectory.actions.shape == table.trajectory.mask.shape == (4, 5, 1)
    assert_same(linear, table, atol=1e-5)
    np.testing.assert_array_equal(
        table.trajectory.inputs[..., 0], [[0] * 5, [1] * 5, [1] * 5, [0] * 5]
    )
    np.testing.assert_array_equal(table.trajectory.actions[0], table.trajectory.actions[3])
    more = policy_draw(TABLE)(FEATURES @ params, asked, KEY, 2, first=3)
    np.testing.assert_array_equal(more.trajectory.actions, table.trajectory.actions[:, 3:])


@pytest.mark.long
def test_the_mixture_of_tables_is_the_normalised_product():
    """20,000 draws; the bound is four standard errors."""
    count, weight = 20_000, 0.3
    params = tuple(jax.random.normal(jax.random.key(i), (2, 3)) for i in (4, 5))
    probs = np.exp((1 - weight) * params[0][1] + weight * params[1][1])
    probs /= probs.sum()
    mixed = mixture_policy(TABLE, weight=weight)
    asked = Prompts(np.ones(count, int), np.arange(count))
    rollout = policy_draw(mixed)(params, asked, KEY, 1)
    actions = np.asarray(rollout.trajectory.actions)[:, 0, 0]
    shares = np.bincount(actions, minlength=3) / count
    assert np.all(np.abs(shares - probs) < 4 * np.sqrt(probs * (1 - probs) / count))
    np.testing.assert_allclose(rollout.token_logps[:, 0, 0], np.log(probs)[actions], atol=1e-5)
    assert mixed.init(KEY)[1].shape == (2, 3)
