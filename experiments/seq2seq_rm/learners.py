"""Reward models from pairs, what they know of held-out pairs, and PPO on each of them."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from experiments.seq2seq_rm.config import Config
from experiments.seq2seq_rm.world import correct_share, draw_pairs, prompt_states, right_tokens
from rlhf_jax.algos import ppo, reward_model
from rlhf_jax.algos.correction_model import (
    fit_correction_table,
    make_token_rewards,
    only_identity,
)
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.ops.corrections import agreement_rewards, likeliest_agreement
from rlhf_jax.ops.returns import answer_discounts, gae, last_step
from rlhf_jax.ops.statistics import wins
from rlhf_jax.policies.tabular import (
    tabular_policy,
    tabular_reward,
    tabular_rewriting,
    tabular_value,
)
from rlhf_jax.types import PreferenceBatch, Trajectory

RULE, MATCH, IGNORES = "paper's rule", "every token", "paper's rule, input ignored"
SCALAR, DENSE = "scalar", "scalar, by token"
ARMS = (RULE, MATCH, IGNORES, SCALAR, DENSE)
IGNORING = 1e6  # a back-off that leaves nothing of the answer that was read
MODELS = ("both maps", "identity alone", "input ignored")


class RewardModels(NamedTuple):
    """both, identity, ignores: [S V, V] logits of rewriting tables fitted to both maps, to the
    identity alone, and to chosen answers without what was read. scores: [S, V] of the scalar."""

    both: Array
    identity: Array
    ignores: Array
    scores: Array


def study(config: Config) -> dict[str, np.ndarray]:
    """Everything, seeds first: shares [seeds, sizes, arms, updates + 1] of right tokens; accuracy
    [seeds, sizes, 2] of (both maps, scalar); credit [seeds, sizes, models]; copied [seeds]."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    found = jax.jit(jax.vmap(partial(run_seed, config)))(keys)
    return jax.tree.map(np.asarray, found)


def run_seed(config: Config, key: Key[Array, ""]) -> dict[str, Array]:
    """One world with all sizes and all arms; the arms share their random numbers."""
    world_key, pair_key, held_key, run_key = jax.random.split(key, 4)
    right = right_tokens(world_key, config)
    pairs = draw_pairs(pair_key, right, config, config.sizes[-1])
    held = draw_pairs(held_key, right, config, config.heldout)

    def one(count: Array) -> dict[str, Array]:
        first = (jnp.arange(config.sizes[-1]) < count).astype(jnp.float32)
        models = fit_models(replace(pairs, weights=first), config)
        arms = jnp.arange(len(ARMS))
        shares = jax.vmap(lambda arm: train(run_key, models, arm, right, config))(arms)
        return {"shares": shares} | knowledge(models, held, right, config)

    copied = jnp.mean(right[held.rejected.inputs] == held.rejected.actions)
    return jax.vmap(one)(jnp.asarray(config.sizes)) | {"copied": copied}


def fit_models(pairs: PreferenceBatch, config: Config) -> RewardModels:
    """By counting, and the scalar by Bradley-Terry."""
    states, size = config.prompts * config.length, config.vocabulary
    fit = partial(
        fit_correction_table,
        rewrite=tabular_rewriting(size),
        num_states=states,
        num_actions=size,
    )
    reward, optimizer = tabular_reward(states, size), optax.adam(config.fit_rate)
    update = reward_model.make_update(
        reward, optimizer, penalty=lambda params, batch: config.l2 * jnp.sum(params**2)
    )
    state = init_state(jnp.zeros((states, size)), optimizer)
    state, _ = jax.lax.scan(
        lambda state, _: (update(state, pairs)[0], None), state, length=config.fit_steps
    )
    return RewardModels(
        fit(pairs, backoff=config.backoff),
        fit(only_identity(pairs), backoff=config.backoff),
        fit(pairs, backoff=IGNORING),
        state.params,
    )


def agreements(table: Array, answers: Trajectory, config: Config) -> Array:
    """[N, L] where the rewriting agrees."""
    size = config.vocabulary
    twice = tabular_rewriting(size)(answers, answers)
    return likeliest_agreement(table[twice.inputs], answers.actions)


def knowledge(
    models: RewardModels, held: PreferenceBatch, right: Array, config: Config
) -> dict[str, Array]:
    """Accuracy on held-out pairs, and how often agreement on rejected answers is the truth."""
    matches = [agreements(models.both, x, config).sum(-1) for x in (held.chosen, held.rejected)]
    states, size = config.prompts * config.length, config.vocabulary
    scores = partial(tabular_reward(states, size).scores, models.scores)
    found = matches, [scores(held.chosen), scores(held.rejected)]
    accuracy = [
        jnp.mean(wins(chosen.astype(float), other.astype(float))) for chosen, other in found
    ]
    truth = right[held.rejected.inputs] == held.rejected.actions
    tables = (models.both, models.identity, models.ignores)
    credit = [jnp.mean(agreements(table, held.rejected, config) == truth) for table in tables]
    return {"accuracy": jnp.stack(accuracy), "credit": jnp.stack(credit)}


def rewards_of(models: RewardModels, arm: Array, sampled: Trajectory, config: Config) -> Array:
    """[B, L] rewards of each token by the arm with this number in ARMS."""
    states, size = config.prompts * config.length, config.vocabulary
    rewards = make_token_rewards(tabular_policy(states * size, size), tabular_rewriting(size))
    dense = models.scores[sampled.inputs, sampled.actions]
    final = jnp.where(last_step(sampled.mask), dense.sum(-1, keepdims=True), 0.0)
    every = agreement_rewards(agreements(models.both, sampled, config), sampled.mask)
    by_rule = (rewards(table, sampled) for table in (models.both, models.ignores))
    rule, ignores = by_rule
    return jnp.stack([rule, every, ignores, final, dense])[arm]


def train(
    key: Key[Array, ""], models: RewardModels, arm: Array, right: Array, config: Config
) -> Array:
    """PPO from the uniform policy: share of right tokens before each update and at the end."""
    states, size = config.prompts * config.length, config.vocabulary
    policy, value = tabular_policy(states, size), tabular_value(states)
    # One update of each batch: no ratio and no value has moved, so nothing is clipped.
    options = ppo.PPOConfig(beta=0.0, gae_lambda=config.gae_lambda, value_clip_eps=jnp.inf)
    optimizer = optax.adam(config.rate)
    update = ppo.make_update(policy, value, optimizer, options)

    def step(state, number):
        prompt_key, token_key = jax.random.split(jax.random.fold_in(key, number))
        shown = prompt_states(prompt_key, config, config.batch)
        logits = policy.logits(state.params.policy, shown)
        sampled = Trajectory(
            shown, jax.random.categorical(token_key, logits), jnp.ones(shown.shape, bool)
        )
        rewards = rewards_of(models, arm, sampled, config)
        old_logps = policy.logps(state.params.policy, shown, sampled.actions)
        old_values = value.values(state.params.value, shown)
        advantages = gae(
            rewards,
            old_values,
            answer_discounts(sampled.mask),
            jnp.zeros(config.batch),
            gae_lambda=config.gae_lambda,
        )
        batch = ppo.PPOBatch(sampled, old_logps, old_values, advantages, advantages + old_values)
        return update(state, batch)[0], correct_share(state.params.policy, right)

    params = ppo.ActorCritic(jnp.zeros((states, size)), jnp.zeros(states))
    _, shares = jax.lax.scan(step, init_state(params, optimizer), jnp.arange(config.updates + 1))
    return shares
