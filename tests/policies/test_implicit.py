"""The reward that two policies imply: DPO is Bradley-Terry on it, whatever the policy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax import bradley_terry_loss, dpo_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.ops.logprobs import mean_logps, sequence_logps
from rlhf_jax.policies.implicit import implicit_reward, implicit_token_rewards
from rlhf_jax.policies.language import language_inputs, language_policy
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import Trajectory

BETA = 0.3


def in_a_table() -> tuple:
    """Policy and two answers of at most three steps to each of four prompts."""
    states = jax.random.randint(jax.random.key(3), (2, 4, 3), 0, 5)
    actions = jax.random.randint(jax.random.key(4), (2, 4, 3), 0, 3)
    mask = jnp.arange(3) < jnp.array([[3, 2, 1, 3], [1, 3, 2, 2]])[..., None]
    return tabular_policy(num_states=5, num_actions=3), Trajectory(states, actions, mask)


def in_a_language() -> tuple:
    """The same of a transformer."""
    model = make_transformer(
        TransformerConfig(
            vocab_size=7, d_model=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=8
        )
    )
    keys = jax.random.split(jax.random.key(5))
    prompts, answers = (jax.random.randint(key, (2, 4, 3), 1, 7) for key in keys)
    mask = jnp.arange(3) < jnp.array([[3, 2, 1, 3], [1, 3, 2, 2]])[..., None]
    inputs = language_inputs(prompts, jnp.ones_like(prompts, bool), answers, mask)
    return language_policy(model), Trajectory(inputs, answers, mask)


def drawn(policy, seed: int):
    """Params of which no leaf is constant."""
    leaves, tree = jax.tree.flatten(policy.init(jax.random.key(seed)))
    keys = jax.random.split(jax.random.key(seed + 9), len(leaves))
    noisy = [x + jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


@pytest.mark.long
@pytest.mark.parametrize("make", [in_a_table, in_a_language])
@pytest.mark.parametrize("logps", [sequence_logps, mean_logps])
def test_bradley_terry_on_it_is_dpo(make, logps):
    policy, trajectory = make()
    reward = implicit_reward(policy, beta=BETA, logps=logps)
    first, second = (drawn(policy, seed) for seed in (0, 1))

    def bradley_terry(params):
        scores = reward.scores({"policy": params, "reference": second}, trajectory)
        return bradley_terry_loss(*scores).mean()

    def dpo(params):
        trained, reference = (
            logps(policy.logps(p, trajectory.inputs, trajectory.actions), trajectory.mask)
            for p in (params, second)
        )
        return dpo_loss(*trained, *reference, beta=BETA).mean()

    for one, other in zip(
        jax.tree.leaves(jax.value_and_grad(bradley_terry)(first)),
        jax.tree.leaves(jax.value_and_grad(dpo)(first)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_by_hand():
    """Two states, two actions: the trained policy says (0.8, 0.2) in state 0, all else is even."""
    policy = tabular_policy(num_states=2, num_actions=2)
    even = jax.tree.map(jnp.zeros_like, policy.init(jax.random.key(0)))
    trained = jax.tree.map(lambda x: x.at[0, 0].set(np.log(4.0)), even)
    trajectory = Trajectory(
        jnp.array([[0, 1], [0, 0]]), jnp.array([[0, 1], [1, 0]]), jnp.array([[True] * 2] * 2)
    )
    reward = implicit_reward(policy, beta=2.0)
    found = reward.scores({"policy": trained, "reference": even}, trajectory)
    by_hand = [2 * np.log(0.8 / 0.5), 2 * (np.log(0.2 / 0.5) + np.log(0.8 / 0.5))]
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)


@pytest.mark.parametrize("make", [in_a_table, in_a_language])
def test_its_first_scores_are_zero_and_masked_steps_change_nothing(make):
    policy, trajectory = make()
    reward = implicit_reward(policy, beta=BETA)
    params = reward.init(jax.random.key(0))
    np.testing.assert_array_equal(reward.scores(params, trajectory), np.zeros((2, 4)))
    params["policy"] = drawn(policy, 1)
    other = jnp.where(trajectory.mask, trajectory.actions, 0)
    found, same = (
        reward.scores(params, replace(trajectory, actions=x)) for x in (trajectory.actions, other)
    )
    np.testing.assert_allclose(found, same, rtol=1e-6)
    assert float(jnp.abs(found).max()) > 1e-3


@pytest.mark.parametrize("make", [in_a_table, in_a_language])
def test_rewards_of_tokens_sum_to_it_and_are_zero_where_nothing_counts(make):
    policy, trajectory = make()
    params = {"policy": drawn(policy, 0), "reference": drawn(policy, 1)}
    tokens = implicit_token_rewards(policy, beta=BETA)(params, trajectory)
    whole = implicit_reward(policy, beta=BETA).scores(params, trajectory)
    np.testing.assert_allclose(tokens.sum(-1), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tokens[~trajectory.mask], 0.0)
    assert float(jnp.abs(tokens).min(where=trajectory.mask, initial=1.0)) > 0


def test_those_of_the_best_policy_are_its_soft_advantages():
    """A tree of two steps: state 0, then 1 or 2 by the first action. pi* is proportional to
    pi_ref exp(r / beta) over whole answers, and V(s) = beta log E exp(r / beta) under pi_ref."""
    r, beta = np.array([[1.0, -2.0], [0.5, 3.0]]), 0.7
    last = beta * np.log(np.exp(r / beta).mean(-1))
    root = beta * np.log(np.exp(last / beta).mean())
    policy = tabular_policy(num_states=3, num_actions=2)
    best = jnp.asarray(np.stack([last / beta, *(r / beta)]), jnp.float32)
    params = {"policy": best, "reference": jnp.zeros((3, 2))}
    first, second = np.indices((2, 2))
    states = jnp.asarray(np.stack([np.zeros_like(first), 1 + first], axis=-1))
    actions = jnp.asarray(np.stack([first, second], axis=-1))
    trajectory = Trajectory(states, actions, jnp.ones((2, 2, 2), bool))
    found = implicit_token_rewards(policy, beta=beta)(params, trajectory)
    advantages = np.stack([last[first] - root, r - last[first]], axis=-1)
    np.testing.assert_allclose(found, advantages, rtol=1e-5, atol=1e-6)
