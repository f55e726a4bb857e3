"""SPO on sampled answers: an answer's reward is its win rate over other answers to the prompt."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.algos.online import AnswerBatch, make_answer_update
from rlhf_jax.algos.selfplay.queue import AnswerQueue, empty_queue, push_answers
from rlhf_jax.algos.selfplay.rounds import (
    AnswerMethod,
    AnswerState,
    Arena,
    judge_answers,
    start_rounds,
)
from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.losses.games import nash_md_pg_loss
from rlhf_jax.ops.games import answer_win_rates
from rlhf_jax.ops.masking import Mean, weighted_mean
from rlhf_jax.types import Metrics, Params, Prompts, Scalar, TrainState, Trajectory


def spo(arena: Arena, *, beta: Scalar, samples: int) -> AnswerMethod:
    """SPO on groups: each answer's reward is its win rate over the others of its group.

    r_i = mean_{j != i} P(y_i > y_j),   gradient of log pi(y_i) (r_i - 1/2 - beta KL to go).

    One policy gradient step per round, in self-play. One call of the judge compares all
    K (K - 1) / 2 pairs of each prompt.

    Args:
      beta: KL weight >= 0. The paper has 0; then the average policy converges, not the last.
      samples: K >= 2, answers per prompt.
    Returns:
      AnswerMethod. Metrics: those of `make_answer_update`, "prefs/mean", and "prefs/deviation", the
      root mean square of r - 1/2.
    Reference: Swamy et al. 2024, arXiv:2401.04056.
    Departs: rewards are win rates minus 1/2, half of the paper's payoffs in [-1, 1]. They belong to
      the whole answer and are not divided by its length, nor by their deviation over the group,
      which would move the fixed point.
    """
    check_range("[2, inf)", samples=samples)
    step = _win_rate_step(arena, beta)
    upper = np.triu(np.ones((samples, samples), bool), 1)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        rollout = arena.draw(state.train.params, prompts, key, samples)
        answers = rollout.trajectory
        mask = np.broadcast_to(upper, (*answers.mask.shape[:1], samples, samples))
        half = _compared(arena, prompts, answers, answers, mask)
        prefs = jnp.where(mask, half, 1.0 - jnp.swapaxes(half, 1, 2))
        wins = answer_win_rates(prefs, jnp.isfinite(prefs) & ~jnp.eye(samples, dtype=bool))
        train, metrics = step(state.train, answers, wins, arena.weigh(rollout))
        return AnswerState(train, (), state.round + 1), metrics

    return AnswerMethod(partial(start_rounds, arena), play)


def spo_queue(
    arena: Arena,
    *,
    beta: Scalar,
    samples: int,
    size: int,
    prompt_count: int,
    like: Trajectory | None = None,
) -> AnswerMethod:
    """SPO with a queue: each answer's reward is its win rate over the last answers to its prompt.

    The new group enters the queue first, so a prompt seen for the first time is judged as in `spo`;
    an answer is never compared with itself. One call of the judge makes all comparisons,
    B K (Q - 1) of them once the queues are full.

    Args:
      beta, samples: as in `spo`. K = 1 is allowed; the first round of a prompt then has no
        comparison.
      size: Q >= K, answers kept per prompt; Q = K is `spo`. A long queue lags behind the policy.
      prompt_count: N, number of prompts in the data set. Prompt indices must lie in [0, N), each at
        most once in a batch.
      like: answers [B, K] with the shapes of the coming ones, nothing computed (`jax.eval_shape`).
        The queue then exists from the start, so that all states have one structure: checkpoints
        need that.
    Returns:
      AnswerMethod; `memory` is an `AnswerQueue`, or None before the first round without `like`.
      Metrics as `spo`, and "ages/mean", the mean age in rounds of the answers compared with.
    Reference, Departs: as `spo`.
    """
    check_range(f"[1, {size}]", samples=samples)
    step = _win_rate_step(arena, beta)
    push = arena.compile(push_answers)
    itself = np.eye(samples, size, dtype=bool)

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Metrics]:
        indices = np.asarray(prompts.indices)
        _check_indices(indices, prompt_count)
        rollout = arena.draw(state.train.params, prompts, key, samples)
        answers, queue = rollout.trajectory, state.memory
        if queue is None:
            queue = empty_queue(answers, prompt_count=prompt_count, size=size)
        queue = push(queue, jnp.asarray(indices), answers, state.round)
        met: AnswerQueue = jax.tree.map(lambda x: x[indices], queue)
        mask = (np.asarray(met.rounds) >= 0)[:, None, :] & ~itself
        prefs = _compared(arena, prompts, answers, met.answers, mask)
        wins = answer_win_rates(prefs, jnp.asarray(mask) & jnp.isfinite(prefs))
        train, metrics = step(state.train, answers, wins, arena.weigh(rollout))
        ages = jnp.broadcast_to((state.round - met.rounds)[:, None], mask.shape)
        metrics["ages/mean"] = weighted_mean(ages.astype(float), jnp.asarray(mask, float))
        return AnswerState(train, queue, state.round + 1), metrics

    def init(params: Params) -> AnswerState:
        queue = None if like is None else empty_queue(like, prompt_count=prompt_count, size=size)
        return start_rounds(arena, params, queue)

    return AnswerMethod(init, play)


def _win_rate_step(
    arena: Arena, beta: Scalar
) -> Callable[[TrainState, Trajectory, Array, Array | None], tuple[TrainState, Metrics]]:
    """A compiled gradient step on answers [B, K], their win rates and their weights."""
    loss = partial(nash_md_pg_loss, beta=beta)
    update = make_answer_update(arena.policy, arena.optimizer, loss, penalty=arena.penalty)

    def step(
        train: TrainState,
        ref_params: Params,
        answers: Trajectory,
        wins: Float[Array, "B K"],
        weights: Float[Array, "B K"] | None,
    ) -> tuple[TrainState, Metrics]:
        ref = arena.policy.logps(ref_params, answers.inputs, answers.actions)
        columns = {"ref_token_logps": ref, "prefs": wins}
        train, metrics = update(train, AnswerBatch(answers, columns, weights))
        spread = weighted_mean((wins - 0.5) ** 2)
        deviation = Mean(jnp.sqrt(spread.value()), jnp.ones(()))
        return train, metrics | {"prefs/mean": weighted_mean(wins), "prefs/deviation": deviation}

    compiled = arena.compile(step)
    return lambda train, *given: compiled(train, arena.ref_params, *given)


def _compared(
    arena: Arena, prompts: Prompts, answers: Trajectory, others: Trajectory, mask: np.ndarray
) -> Float[Array, "B K M"]:
    """P(answer beats other) where the mask is True, NaN without a verdict, 0 elsewhere; one call of
    the judge."""
    if not mask.any():
        return jnp.zeros(mask.shape)
    row, one, other = np.nonzero(mask)
    first = jax.tree.map(lambda x: x[row, one], answers)
    second = jax.tree.map(lambda x: x[row, other], others)
    prefs = judge_answers(arena, np.asarray(prompts.indices)[row], first, second)
    return jnp.zeros(mask.shape, prefs.dtype).at[row, one, other].set(prefs)


def _check_indices(indices: np.ndarray, prompt_count: int) -> None:
    """ValueError unless each prompt has a place of its own in the queue."""
    check_entries(f"[0, {prompt_count})", indices=indices)
    if len(np.unique(indices)) < len(indices):
        raise ValueError("a prompt occurs twice in the batch; each queue takes one group per round")
