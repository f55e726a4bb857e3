"""Two agents on one episode: their samples, and updates that leave each other alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos.agents import (
    AgentSamples,
    agent_batch,
    make_agent_update,
    make_update,
    shared_batch,
    turn_samples,
)
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import language_policy, language_trajectory
from rlhf_jax.policies.linear import linear_policy
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import Trajectory

SGD = optax.sgd(1.0)
NAN = float("nan")


def table_samples(key, states=3, actions=4, size=8):
    """Single actions of a table, with rewards."""
    keys = jax.random.split(jax.random.key(key), 3)
    where = jax.random.randint(keys[0], (size, 1), 0, states)
    what = jax.random.randint(keys[1], (size, 1), 0, actions)
    logps = jnp.full((size, 1), -jnp.log(actions))
    answers = Trajectory(where, what, jnp.ones((size, 1), bool))
    return AgentSamples(answers, jax.random.normal(keys[2], (size,)), logps, logps)


def episodes():
    """Two episodes of up to three turns, one token each; the second one ends after two."""
    turn_ids = jnp.array([[0, 1, 2], [0, 1, -1]])
    mask = turn_ids >= 0
    actions = jnp.array([[0, 1, 2], [3, 2, 0]])
    rewards = jnp.array([[0.0, 1.0, 1.0], [1.0, 0.5, 0.0]])
    logps = jnp.full((2, 3), -1.0)
    return Trajectory(jnp.zeros((2, 3), int), actions, mask), turn_ids, rewards, logps, logps


def test_an_episode_is_cut_into_turns():
    cut = turn_samples(*episodes(), turns=(0, 2))
    np.testing.assert_array_equal(cut.answers.mask[0], [[1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(cut.answers.mask[1], [[0, 0, 1], [0, 0, 0]])
    assert cut.answers.valid is not None
    np.testing.assert_array_equal(cut.answers.valid[1], episodes()[0].mask)
    np.testing.assert_array_equal(cut.returns, [[0, 1], [1, 0]])
    batch = agent_batch(cut, beta=0.0, whitened=False)
    # The second revision was not given: paid 0, 1, 1, of mean 2/3.
    np.testing.assert_array_equal(batch.weights, [[1, 1], [1, 0]])
    got = batch.columns["advantages"].sum(-1)
    np.testing.assert_allclose(got, [[-2 / 3, 1 / 3], [1 / 3, 0]], atol=1e-6)
    feedback = agent_batch(turn_samples(*episodes(), turns=(1,)), beta=0.0, whitened=False)
    np.testing.assert_allclose(feedback.columns["advantages"].sum(-1), [[0.25, -0.25]], atol=1e-6)


@pytest.mark.long
def test_a_turn_without_a_reward_is_left_out():
    samples = table_samples(0)
    for bad in (NAN, jnp.inf):
        broken = samples.returns.at[3].set(bad)
        batch = agent_batch(AgentSamples(samples.answers, broken, *logps_of(samples)), beta=0.0)
        assert batch.weights is not None
        assert batch.weights.tolist() == [1, 1, 1, 0, 1, 1, 1, 1]
        update = make_agent_update(tabular_policy(3, 4), SGD, clip_eps=0.2)
        state, metrics = update(init_state(jnp.zeros((3, 4)), SGD), batch)
        assert jnp.isfinite(state.params).all()
        assert jnp.isfinite(metrics["loss"].value())


def logps_of(samples):
    return samples.old_token_logps, samples.ref_token_logps


def test_the_gradient_is_that_of_reinforce():
    """At ratio 1: the mean of A grad log pi, centred rewards as A."""
    samples = table_samples(1)
    policy = tabular_policy(3, 4)
    batch = agent_batch(samples, beta=0.0, whitened=False)
    state, _ = make_agent_update(policy, SGD, clip_eps=0.2)(
        init_state(jnp.zeros((3, 4)), SGD), batch
    )
    away = samples.returns - samples.returns.mean()

    def surrogate(params):
        answers = samples.answers
        return jnp.mean(away * policy.logps(params, answers.inputs, answers.actions)[:, 0])

    want = jax.grad(surrogate)(jnp.zeros((3, 4)))
    np.testing.assert_allclose(state.params, want, atol=1e-6)


def both(key=2):
    batches = tuple(agent_batch(table_samples(k), beta=0.0) for k in (key, key + 1))
    states = tuple(init_state(jnp.zeros((3, 4)), SGD) for _ in range(2))
    return states, batches


def test_a_frozen_agent_leaves_single_agent_rl():
    one = make_agent_update(tabular_policy(3, 4), SGD, clip_eps=0.2)
    states, batches = both()
    joint, metrics = make_update([one, one])(states, batches)
    assert {"0/loss", "1/loss"} <= set(metrics)
    for i in range(2):
        alone, _ = one(states[i], batches[i])
        np.testing.assert_array_equal(joint[i].params, alone.params)
        frozen, metrics = make_update([one if j == i else None for j in range(2)])(states, batches)
        np.testing.assert_array_equal(frozen[i].params, alone.params)
        np.testing.assert_array_equal(frozen[1 - i].params, states[1 - i].params)
        assert all(name.startswith(f"{i}/") for name in metrics)
    with pytest.raises(ValueError, match="2 agents need a state and a batch each, got 2 and 1"):
        make_update([one, one])(states, batches[:1])


def test_the_order_of_an_agents_samples_never_matters():
    one = make_agent_update(tabular_policy(3, 4), SGD, clip_eps=0.2)
    states, batches = both()
    order = np.random.default_rng(0).permutation(8)
    turned = jax.tree.map(lambda x: x[order], batches[0])
    plain, _ = make_update([one, one])(states, batches)
    moved, _ = make_update([one, one])(states, (turned, batches[1]))
    for a, b in zip(plain, moved, strict=True):
        np.testing.assert_allclose(a.params, b.params, atol=1e-6)


def test_agents_with_one_policy_are_whitened_apart():
    batches = both()[1]
    loud = agent_batch(
        AgentSamples((quiet := table_samples(3)).answers, 1000.0 * quiet.returns, *logps_of(quiet)),
        beta=0.0,
    )
    together = shared_batch((batches[0], loud))
    assert together.weights is not None
    assert together.weights.shape == (16,)
    sizes = jnp.abs(together.columns["advantages"]).reshape(2, 8).mean(-1)
    assert 0.5 < float(sizes[0] / sizes[1]) < 2.0
    update = make_agent_update(tabular_policy(3, 4), SGD, clip_eps=0.2)
    start = init_state(jnp.zeros((3, 4)), SGD)
    joint, first, second = (update(start, x)[0].params for x in (together, batches[0], loud))
    np.testing.assert_allclose(joint, (first + second) / 2, atol=1e-6)


def test_a_log_linear_policy_learns_the_same_way():
    features = jnp.broadcast_to(jnp.eye(4), (3, 4, 4))
    policy = linear_policy(features)
    update = make_agent_update(policy, SGD, clip_eps=0.2)
    batch = agent_batch(table_samples(4), beta=0.0)
    linear, _ = update(init_state(jnp.zeros(4), SGD), batch)
    table, _ = make_agent_update(tabular_policy(3, 4), SGD, clip_eps=0.2)(
        init_state(jnp.zeros((3, 4)), SGD), batch
    )
    np.testing.assert_allclose(linear.params, table.params.sum(0), atol=1e-6)


@pytest.mark.long
def test_two_transformers_learn_their_own_turns():
    """Turn 0 is paid for token 3, turn 1 for token 4: each agent learns its own."""
    config = TransformerConfig(
        vocab_size=8, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=32
    )
    policy, optimizer = language_policy(make_transformer(config)), optax.adam(0.02)
    update = jax.jit(make_update([make_agent_update(policy, optimizer, clip_eps=0.2)] * 2))
    states = tuple(init_state(policy.init(jax.random.key(i)), optimizer) for i in range(2))
    prompt = jnp.ones((16, 2), jnp.int32)
    ids = jnp.stack([jnp.repeat(jnp.array([3, 4]), 8), jnp.tile(jnp.array([3, 4]), 8)], -1)
    full = jnp.ones((16, 2), bool)
    answers = language_trajectory(prompt, full, ids, full)
    turn_ids = jnp.broadcast_to(jnp.arange(2), (16, 2))
    rewards = (ids == jnp.array([3, 4])).astype(jnp.float32)

    def chances(states):
        return [
            jnp.exp(policy.logps(state.params, answers.inputs, answers.actions))[:, i]
            for i, state in enumerate(states)
        ]

    before = chances(states)
    for _ in range(10):
        batches = []
        for i in range(2):
            logps = policy.logps(states[i].params, answers.inputs, answers.actions)
            cut = turn_samples(answers, turn_ids, rewards, logps, logps, turns=(i,))
            batches.append(agent_batch(cut, beta=0.0))
        states, _ = update(states, tuple(batches))
    for i, (old, new) in enumerate(zip(before, chances(states), strict=True)):
        paid = rewards[:, i] > 0
        assert float(new[paid].mean()) > 2 * float(old[paid].mean())
        assert float(new[~paid].mean()) < float(old[~paid].mean())
