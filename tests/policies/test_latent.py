"""Models with a user's latent, on a table, on features and on language; the encoder of users."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax.algos import preference
from rlhf_jax.algos.control import iql
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.policies.language import language_embedding, language_policy, language_trajectory
from rlhf_jax.policies.latent import (
    decoded_reward,
    for_user,
    latent_policy,
    latent_reward,
    latent_value,
    policy_for_user,
    user_encoder,
)
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.policies.tabular import tabular_policy, tabular_reward, tabular_value
from rlhf_jax.types import LatentInputs, PreferenceBatch, Trajectory, with_latents

K, STATES, ACTIONS, ROWS, STEPS = 2, 3, 4, 5, 3
RNG = np.random.default_rng(0)
LATENTS = jnp.asarray(RNG.normal(size=(ROWS, K)), jnp.float32)
CONFIG = TransformerConfig(
    vocab_size=11, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=24
)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def steps() -> Trajectory:
    states, actions = (jnp.asarray(RNG.integers(0, n, (ROWS, STEPS))) for n in (STATES, ACTIONS))
    lengths = RNG.integers(1, STEPS + 1, (ROWS, 1))
    return Trajectory(states, actions, jnp.asarray(np.arange(STEPS) < lengths))


TRAJECTORY = steps()
TABLES = {"base": normal(STATES, ACTIONS), "directions": normal(K, STATES, ACTIONS)}


def table_of(z):
    return TABLES["base"] + z[0] * TABLES["directions"][0] + z[1] * TABLES["directions"][1]


def test_a_table_of_logits_is_linear_in_the_latent():
    base = tabular_policy(STATES, ACTIONS)
    policy = latent_policy(base, latent_dim=K)
    inputs = LatentInputs(TRAJECTORY.inputs, LATENTS)
    found = policy.logps(TABLES, inputs, TRAJECTORY.actions)
    logits = policy.logits(TABLES, inputs)
    for b, z in enumerate(LATENTS):
        states, actions = TRAJECTORY.inputs[b], TRAJECTORY.actions[b]
        np.testing.assert_allclose(logits[b], base.logits(table_of(z), states), rtol=1e-5)
        np.testing.assert_allclose(found[b], base.logps(table_of(z), states, actions), rtol=1e-5)


def test_at_first_every_user_has_the_base_policy():
    base = tabular_policy(STATES, ACTIONS)
    policy = latent_policy(base, latent_dim=K)
    params = policy.init(jax.random.key(0))
    assert params["directions"].shape == (K, STATES, ACTIONS)
    moved = {**params, "base": TABLES["base"]}
    inputs = LatentInputs(TRAJECTORY.inputs, LATENTS)
    np.testing.assert_array_equal(
        policy.logits(moved, inputs), base.logits(TABLES["base"], TRAJECTORY.inputs)
    )


def test_rewards_of_tables_and_of_features():
    given = with_latents(TRAJECTORY, LATENTS)
    scores = latent_reward(tabular_reward(STATES, ACTIONS), latent_dim=K).scores(TABLES, given)
    expected = [
        sum(
            float(table_of(z)[s, a])
            for s, a, m in zip(
                *(
                    np.asarray(x[b])
                    for x in (TRAJECTORY.inputs, TRAJECTORY.actions, TRAJECTORY.mask)
                ),
                strict=True,
            )
            if m
        )
        for b, z in enumerate(LATENTS)
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    x, params = normal(ROWS, 1, 4), {"base": normal(4), "directions": normal(K, 4)}
    one_step = Trajectory(x, jnp.zeros((ROWS, 1), int), jnp.ones((ROWS, 1), bool))
    scores = latent_reward(linear_reward(4), latent_dim=K).scores(
        params, with_latents(one_step, LATENTS)
    )
    # a bilinear form: x . (theta_0 + z D)
    weights = params["base"] + LATENTS @ params["directions"]
    np.testing.assert_allclose(scores, jnp.sum(x[:, 0] * weights, -1), rtol=1e-4, atol=1e-5)


def test_a_latent_that_names_the_user_is_a_table_of_each_user():
    """The oracle, z = one of K unit vectors: rewards of users have nothing in common."""
    plain, items = tabular_reward(STATES, ACTIONS), jax.tree.map(lambda x: x[:1], TRAJECTORY)
    reward = latent_reward(plain, latent_dim=K)
    params = {**TABLES, "base": jnp.zeros((STATES, ACTIONS))}
    for user, z in enumerate(jnp.eye(K)):
        scores = reward.scores(params, with_latents(items, z[None]))
        expected = plain.scores(TABLES["directions"][user], items)
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_latents_of_users_reach_all_their_rows():
    trajectory = Trajectory(
        jnp.zeros((2, 3, 1), int), jnp.zeros((2, 3, 1), int), jnp.ones((2, 3, 1), bool)
    )
    given = with_latents(trajectory, LATENTS[:2]).inputs.latents
    assert given.shape == (2, 3, K)
    np.testing.assert_array_equal(given, jnp.repeat(LATENTS[:2, None], 3, axis=1))
    assert with_latents(trajectory, LATENTS[0]).inputs.latents.shape == (2, 3, K)


def test_one_user_has_a_plain_policy_and_a_plain_reward():
    z = LATENTS[1]
    reward = for_user(latent_reward(tabular_reward(STATES, ACTIONS), latent_dim=K), z)
    np.testing.assert_allclose(
        reward.scores(TABLES, TRAJECTORY),
        tabular_reward(STATES, ACTIONS).scores(table_of(z), TRAJECTORY),
        rtol=1e-5,
    )
    policy = policy_for_user(latent_policy(tabular_policy(STATES, ACTIONS), latent_dim=K), z)
    plain = tabular_policy(STATES, ACTIONS)
    given = TRAJECTORY.inputs, TRAJECTORY.actions
    np.testing.assert_allclose(
        policy.logps(TABLES, *given), plain.logps(table_of(z), *given), rtol=1e-5
    )
    np.testing.assert_allclose(
        policy.logits(TABLES, given[0]), plain.logits(table_of(z), given[0]), rtol=1e-5
    )


def test_the_decoder_counts_real_steps_only_and_reads_the_latent():
    net = make_mlp((4 + K, 8, 1))
    reward = decoded_reward(net)
    params = reward.init(jax.random.key(0))
    x = normal(ROWS, STEPS, 4)
    given = with_latents(Trajectory(x, TRAJECTORY.actions, TRAJECTORY.mask), LATENTS)
    scores = reward.scores(params, given)
    for b, z in enumerate(LATENTS):
        each = [net.apply(params, jnp.concatenate([row, z]))[0] for row in x[b]]
        total = sum(float(e) for e, m in zip(each, TRAJECTORY.mask[b], strict=True) if m)
        np.testing.assert_allclose(scores[b], total, rtol=1e-4, atol=1e-5)
    spoiled = jnp.where(TRAJECTORY.mask[..., None], x, jnp.nan)
    grad = jax.grad(
        lambda p: reward.scores(p, replace(given, inputs=LatentInputs(spoiled, LATENTS))).sum()
    )
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grad(params)))
    assert not np.allclose(
        scores, reward.scores(params, with_latents(replace(given, inputs=x), -LATENTS))
    )


def test_values_are_linear_in_the_latent():
    params = {"base": normal(STATES), "directions": normal(K, STATES)}
    value = latent_value(tabular_value(STATES), latent_dim=K)
    found = value.values(params, LatentInputs(TRAJECTORY.inputs, LATENTS))
    tables = params["base"] + LATENTS @ params["directions"]
    expected = jnp.take_along_axis(tables, TRAJECTORY.inputs, axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_one_policy_learns_offline_what_two_users_want():
    """IQL on relabelled data, the latent among the inputs: rewards +-1 of two actions, by user."""
    users = jnp.repeat(jnp.array([[1.0], [-1.0]]), 2, axis=0)
    states, actions = jnp.zeros((4, 1), int), jnp.array([[0], [1], [0], [1]])
    inputs, ones = LatentInputs(states, users), jnp.ones((4, 1))
    batch = iql.Transitions(
        Trajectory(inputs, actions, ones.astype(bool)),
        inputs,
        rewards=users * jnp.where(actions == 0, 1.0, -1.0),
        discounts=0.0 * ones,
    )
    policy, value = tabular_policy(1, 2), tabular_value(1)
    models = (
        latent_policy(policy, latent_dim=1),
        latent_value(value, latent_dim=1),
        latent_policy(policy, latent_dim=1),
    )
    optimizer = optax.adam(0.05)
    update = iql.make_update(*models, optimizer, iql.IQLConfig(target_rate=0.1))
    state = iql.init_iql(*(each.init(jax.random.key(0)) for each in models), optimizer)
    state = jax.jit(
        lambda state: jax.lax.scan(lambda s, _: (update(s, batch)[0], None), state, length=300)[0]
    )(state)
    for user, wanted in ((1.0, 0), (-1.0, 1)):
        alone = policy_for_user(models[0], jnp.array([user]))
        logits = alone.logits(state.policy.params, jnp.zeros((1, 1), int))
        assert float(jax.nn.softmax(logits[0, 0])[wanted]) > 0.9


# ---- The encoder.

ENCODER = user_encoder(4, K, width=8)
ENCODED = ENCODER.init(jax.random.key(1))
PAIRS = normal(ROWS, 6, 4), normal(ROWS, 6, 4)
REAL = jnp.asarray(np.arange(6) < np.array([[1], [2], [3], [6], [0]]))


def test_the_posterior_knows_no_order_and_no_padding():
    found = ENCODER.posterior(ENCODED, *PAIRS, REAL)
    assert found.means.shape == found.log_variances.shape == (ROWS, K)
    turned = ENCODER.posterior(ENCODED, *(x[:, ::-1] for x in PAIRS), REAL[:, ::-1])
    spoiled = [jnp.where(REAL[..., None], x, jnp.nan) for x in PAIRS]
    for other in (turned, ENCODER.posterior(ENCODED, *spoiled, REAL)):
        np.testing.assert_allclose(other.means, found.means, rtol=1e-4, atol=1e-6)
    alone = ENCODER.posterior(ENCODED, *(x[1, :2] for x in PAIRS), REAL[1, :2])
    np.testing.assert_allclose(alone.means, found.means[1], rtol=1e-4, atol=1e-6)
    slopes = jax.grad(lambda p: ENCODER.posterior(p, *spoiled, REAL).means.sum())(ENCODED)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))


def test_a_label_turned_is_another_posterior():
    found, turned = (ENCODER.posterior(ENCODED, *pair, REAL) for pair in (PAIRS, PAIRS[::-1]))
    assert float(jnp.abs(found.means - turned.means)[:4].min()) > 1e-4
    # nothing was seen of the last user: the same for everybody
    np.testing.assert_array_equal(found.means[4], turned.means[4])


def test_log_variances_stay_in_their_range():
    large = jax.tree.map(lambda x: 1e3 * x, ENCODED)
    found = ENCODER.posterior(large, *PAIRS, REAL).log_variances
    assert -5.0 <= float(found.min()) < float(found.max()) <= 2.0


@pytest.mark.parametrize("name", ["num_features", "latent_dim", "width"])
def test_sizes_out_of_range_are_named(name):
    sizes = {"num_features": 4, "latent_dim": K, "width": 8} | {name: 0}
    with pytest.raises(ValueError, match=rf"{name} must be in \[1, inf\)"):
        user_encoder(**sizes)


def test_latent_dim_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"latent_dim must be in \[1, inf\)"):
        latent_policy(tabular_policy(STATES, ACTIONS), latent_dim=0)


# ---- Language.


def texts(seed):
    rng = np.random.default_rng(seed)
    prompts, answers = (jnp.asarray(rng.integers(1, 11, (ROWS, n))) for n in (3, 4))
    real = jnp.asarray(np.arange(4) < rng.integers(1, 5, (ROWS, 1)))
    return language_trajectory(prompts, jnp.ones_like(prompts, bool), answers, real)


@pytest.mark.long
def test_an_embedding_is_the_hidden_state_of_the_last_real_token():
    model = make_transformer(CONFIG)
    params, given = random_params(model.init), texts(0)
    found = language_embedding(model)(params, given)
    inputs = given.inputs
    hidden = model.hidden(params, inputs.ids, inputs.positions, inputs.segments)
    last = 3 + np.asarray(given.mask).sum(-1) - 1
    np.testing.assert_allclose(found, hidden[np.arange(ROWS), last], rtol=1e-5)
    assert found.dtype == jnp.float32


@pytest.mark.long
def test_one_language_model_learns_what_two_users_want():
    """DPO on a tiny transformer whose params are linear in z: users with opposite taste get
    opposite answers, which without z is impossible."""
    policy = latent_policy(language_policy(make_transformer(CONFIG)), latent_dim=1)
    first, second = texts(1), texts(2)
    second = replace(
        second,
        inputs=replace(second.inputs, ids=second.inputs.ids.at[:, :3].set(first.inputs.ids[:, :3])),
    )
    params = policy.init(jax.random.key(0))
    likes = jnp.array([1.0, -1.0])  # user 0 prefers the first answers, user 1 the second ones

    def both(x, y):
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), x, y)

    z = jnp.repeat(likes, ROWS)[:, None]
    chosen, rejected = (
        with_latents(each, z) for each in (both(first, second), both(second, first))
    )
    batch = preference.attach_reference(policy, params, PreferenceBatch(chosen, rejected))
    optimizer = optax.adam(1e-2)
    update = jax.jit(preference.make_update(policy, optimizer, partial(dpo_loss, beta=0.5)))
    state = init_state(params, optimizer)
    start = update(state, batch)[1]["loss"].value()
    np.testing.assert_allclose(start, np.log(2.0), rtol=1e-4)
    for _ in range(60):
        state, metrics = update(state, batch)
    assert float(metrics["loss"].value()) < 0.2
    for sign in (1.0, -1.0):
        alone = policy_for_user(policy, jnp.array([sign]))
        gaps = [
            jnp.where(each.mask, alone.logps(state.params, each.inputs, each.actions), 0.0).sum(-1)
            - jnp.where(each.mask, alone.logps(params, each.inputs, each.actions), 0.0).sum(-1)
            for each in (first, second)
        ]
        assert bool(jnp.all(sign * (gaps[0] - gaps[1]) > 0))
