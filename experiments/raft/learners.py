"""Learned worlds: RAFT with each of its rankings, and PPO, on a log-linear policy."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from experiments.raft.config import Config
from rlhf_jax.algos import online, sft
from rlhf_jax.algos.best_of import selected_answers, top_rows
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.losses.group_policy_gradient import dapo_loss
from rlhf_jax.ops.groups import leave_one_out_advantages
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.logprobs import entropy
from rlhf_jax.ops.masking import token_mean, whiten
from rlhf_jax.ops.selection import best_answers, kl_ranking_scores, top_answers
from rlhf_jax.types import Policy, PyTree, Scalar, TrainState, Update

CLIP_EPS = 0.2


class World(NamedTuple):
    """features [S, A, d]; rewards [S, A], what is learned from; start [d] of the policy;
    offsets [S], what a prompt may add to all its rewards."""

    features: Array
    rewards: Array
    start: Array
    offsets: Array


class Drawn(NamedTuple):
    """K answers to each prompt: states, actions, rewards, and log-probs under the policy that drew
    them and under the start, all [S, K]."""

    states: Array
    actions: Array
    rewards: Array
    logps: Array
    ref_logps: Array


Learn = Callable[[TrainState, Drawn], TrainState]


def draw_world(config: Config, key: jax.Array) -> World:
    """r = 1.5 phi . w, w and the start from N(0, I / d)."""
    feature_key, reward_key, start_key, offset_key = jax.random.split(key, 4)
    size = config.features
    features = jax.random.normal(feature_key, (config.prompts, config.answers, size))
    weights, start = (jax.random.normal(k, (size,)) / size**0.5 for k in (reward_key, start_key))
    offsets = config.offset * jax.random.normal(offset_key, (config.prompts,))
    return World(features, 1.5 * features @ weights, start, offsets)


def follow(
    config: Config, world: World, rewards: Array, key: jax.Array, learn: Learn, samples: int
) -> dict[str, Array]:
    """[stages + 1] of "reward" (the world's own, whatever was learned from), "kl" to the start,
    "entropy"; "params" [stages + 1, d]."""
    states = jnp.broadcast_to(jnp.arange(config.prompts)[:, None], (config.prompts, samples))
    ref = world.features @ world.start

    def stage(state: TrainState, key: jax.Array) -> tuple[TrainState, dict[str, Array]]:
        measured = measure(world, state.params)
        logits = world.features @ state.params
        actions = jax.random.categorical(key, logits[:, None], shape=states.shape)
        logps, ref_logps = (jax.nn.log_softmax(x)[states, actions] for x in (logits, ref))
        drawn = Drawn(states, actions, rewards[states, actions], logps, ref_logps)
        return learn(state, drawn), measured

    state = init_state(world.start, optax.sgd(config.rate))
    state, found = jax.lax.scan(stage, state, jax.random.split(key, config.stages))
    last = measure(world, state.params)
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), found, last)


def measure(world: World, params: Array) -> dict[str, Array]:
    """Exact numbers of the policy, means over prompts."""
    logits, ref = world.features @ params, world.features @ world.start
    return {
        "reward": jnp.sum(jax.nn.softmax(logits) * world.rewards, -1).mean(),
        "kl": exact_kl(logits, ref).mean(),
        "entropy": entropy(logits).mean(),
        "params": params,
    }


def repeat(update: Update, config: Config, state: TrainState, batch: PyTree) -> TrainState:
    """The gradient steps of a stage, all on the whole batch."""
    return jax.lax.scan(lambda s, _: (update(s, batch)[0], None), state, length=config.steps)[0]


def raft(config: Config, policy: Policy, *, beta: Scalar = 0.0, everywhere: bool = False) -> Learn:
    """Likelihood of the best answer of each prompt; `everywhere`, of the best of all prompts."""
    update = sft.make_update(policy, optax.sgd(config.rate))

    def learn(state: TrainState, drawn: Drawn) -> TrainState:
        answers = bandit_trajectory(drawn.states, drawn.actions)
        scores = kl_ranking_scores(drawn.rewards, drawn.logps, drawn.ref_logps, beta=beta)
        if everywhere:
            flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), answers)
            batch = top_rows(flat, top_answers(scores.reshape(-1), count=len(scores)))
        else:
            batch = selected_answers(answers, best_answers(scores))
        return repeat(update, config, state, batch)

    return learn


def ppo(config: Config, policy: Policy) -> Learn:
    """Clipped policy gradient on leave-one-out advantages, whitened over the batch, without KL."""
    loss = partial(dapo_loss, clip_eps_low=CLIP_EPS, clip_eps_high=CLIP_EPS)
    optimizer = optax.sgd(config.rate)
    update = online.make_answer_update(policy, optimizer, loss, reduction=token_mean)

    def learn(state: TrainState, drawn: Drawn) -> TrainState:
        advantages = leave_one_out_advantages(drawn.rewards)
        advantages = whiten(advantages, jnp.ones_like(advantages, bool)).astype(jnp.float32)
        columns = {"old_token_logps": drawn.logps[..., None], "advantages": advantages}
        batch = online.AnswerBatch(bandit_trajectory(drawn.states, drawn.actions), columns)
        return repeat(update, config, state, batch)

    return learn
