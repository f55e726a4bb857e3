"""Agents that are trained together, each on its own turns of the same episodes (WaltzRL).

    batch = agent_batch(samples, beta=0.01)                      # of one agent
    update = make_update([make_agent_update(policy, optimizer, clip_eps=0.2)] * 2)
    states, metrics = update(states, (conversation_batch, feedback_batch))

A joint episode becomes single-agent samples: what an agent had read, what it said in one turn, and
what that turn is paid. A turn is not paid for what later turns make of it, so that a conversation
agent gains nothing by a bad draft that it then improves. Agents may share their parameters:
`shared_batch` puts their samples into one batch, each whitened among its own.

Reference: Zhang et al. 2025, arXiv:2510.08240.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from rlhf_jax.algos.gradient import Diagnostics
from rlhf_jax.algos.online import AnswerBatch, make_answer_update
from rlhf_jax.losses.policy_gradient import ppo_clip_loss
from rlhf_jax.ops.agents import agent_advantages
from rlhf_jax.ops.kl import k1
from rlhf_jax.ops.masking import sequence_mean_of_token_mean
from rlhf_jax.types import Policy, Scalar, TrainState, Trajectory, Update, record


@record
class AgentSamples:
    """Turns of one agent.

    answers: trajectory [*B]; its mask is the one turn of the sample, empty where none was taken.
    returns: [*B] what the turn is paid; NaN leaves the sample out.
    old_token_logps, ref_token_logps: [*B, T] under the policy that spoke, and under the reference.
    """

    answers: Trajectory
    returns: Array
    old_token_logps: Array
    ref_token_logps: Array


def turn_samples(
    answers: Trajectory,
    turn_ids: Int[Array, "*B T"],
    rewards: Float[Array, "*B N"],
    old_token_logps: Float[Array, "*B T"],
    ref_token_logps: Float[Array, "*B T"],
    *,
    turns: Sequence[int],
) -> AgentSamples:
    """The samples of an agent with these turns, [len(turns), *B]; an episode is cut, not shared.

    Args:
      answers: whole episodes.
      turn_ids: as in `ops.turns`.
      rewards: of each turn alone, e.g. the quality of an answer or `feedback_rewards`.
    """
    masks = jnp.stack([answers.mask & (turn_ids == turn) for turn in turns])

    def repeated(x: Array) -> Array:
        return jnp.broadcast_to(x, (len(turns), *jnp.shape(x)))

    valid = answers.mask if answers.valid is None else answers.valid
    cut = Trajectory(
        jax.tree.map(repeated, answers.inputs), repeated(answers.actions), masks, repeated(valid)
    )
    paid = jnp.stack([rewards[..., turn] for turn in turns])
    return AgentSamples(cut, paid, repeated(old_token_logps), repeated(ref_token_logps))


def agent_batch(samples: AgentSamples, *, beta: Scalar, whitened: bool = True) -> AnswerBatch:
    """The batch of `make_agent_update`; turns that were not taken, or have no reward, weigh 0.

    Args:
      beta, whitened: as in `ops.agents.agent_advantages`.
    """
    answers = samples.answers
    kept = jnp.any(answers.mask, axis=-1) & jnp.isfinite(samples.returns)
    mask = answers.mask & kept[..., None]
    returns = jnp.where(kept, samples.returns, 0.0)
    old, ref = (jnp.where(mask, x, 0.0) for x in (samples.old_token_logps, samples.ref_token_logps))
    advantages = agent_advantages(returns, k1(old, ref), mask, beta=beta, whitened=whitened)
    return AnswerBatch(
        answers,
        {"old_token_logps": old, "advantages": advantages},
        kept.astype(advantages.dtype),
    )


def shared_batch(batches: Sequence[AnswerBatch]) -> AnswerBatch:
    """The samples of several agents with one policy, along the first axis."""
    return jax.tree.map(lambda *x: jnp.concatenate(x), *batches)


def make_agent_update(
    policy: Policy, optimizer: optax.GradientTransformation, *, clip_eps: Scalar
) -> Update[TrainState, AnswerBatch]:
    """Clipped policy gradient on `agent_batch`: the mean over samples of the mean over tokens.

    Args:
      clip_eps: of `ppo_clip_loss`; infinity for none.
    """

    def loss(token_logps, old_token_logps, advantages, mask):
        arrays = (token_logps, old_token_logps, advantages)
        return ppo_clip_loss(*(jnp.where(mask, x, 0.0) for x in arrays), clip_eps=clip_eps)

    return make_answer_update(policy, optimizer, loss, reduction=sequence_mean_of_token_mean)


def make_update(
    updates: Sequence[Update[TrainState, AnswerBatch] | None],
) -> Callable[..., tuple[tuple[TrainState, ...], dict[str, Any]]]:
    """One step of every agent on its own samples of the same episodes.

    Args:
      updates: of each agent; None freezes it, which leaves single-agent RL for the others.
    Returns:
      Pure `update(states, batches) -> (states, metrics)`; metrics of agent i are named "i/...".
    """

    def update(
        states: Sequence[TrainState], batches: Sequence[AnswerBatch]
    ) -> tuple[tuple[TrainState, ...], Diagnostics]:
        if not len(states) == len(batches) == len(updates):
            raise ValueError(
                f"{len(updates)} agents need a state and a batch each, got {len(states)} and "
                f"{len(batches)}"
            )
        found, metrics = [], {}
        for i, one in enumerate(updates):
            state = states[i]
            if one is not None:
                state, own = one(state, batches[i])
                metrics |= {f"{i}/{name}": value for name, value in own.items()}
            found.append(state)
        return tuple(found), metrics

    return update
