"""Shared by all self-play methods: the arena, the state, drawing and judging answers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rlhf_jax.algos.gradient import Penalise, init_state
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.rewards import checked_judge
from rlhf_jax.types import (
    AnswerLogps,
    Draw,
    Judge,
    Metrics,
    Params,
    Policy,
    Prompts,
    Rollout,
    TrainState,
    Trajectory,
)

Weigh = Callable[[Rollout], Float[Array, "B K"] | None]


def equal_weights(rollout: Rollout) -> None:
    """Every answer counts the same."""


class Arena(NamedTuple):
    """A preference game on sampled answers: policy, opponent's reference, draws and judge.

    Attributes:
      policy: any parametrisation.
      optimizer: optax.
      draw: `(params, prompts, key, samples) -> Rollout [B, samples]` from the policy itself, at
        temperature 1: `sampling.draws.language_draw` or `policy_draw`. Another way of drawing needs
        `weigh`.
      judge: on the host, `(indices [N], first [N], second [N]) -> prefs [N]`, P(first beats second)
        of two trajectories that answer the same prompts. Its output is checked by
        `rewards.checked_judge`. In a list None is no verdict: the comparison has weight 0.
      ref_params: params of the reference mu.
      logps: `(token_logps, mask) -> [*B]`, reduces token log-probs to the input of pair losses: the
        sum in theory, `mean_logps` in some official code.
      compile: compiles the pure parts. It must not donate buffers, because methods keep old params.
      weigh: `rollout of draw -> [B, K]` weights of answers in policy gradients, for a draw that is
        not the policy itself; None for ones. Regressions take pairs as they come.
      penalty: as in `gradient.accumulate`.
    """

    policy: Policy
    optimizer: optax.GradientTransformation
    draw: Draw
    judge: Judge
    ref_params: Params
    logps: AnswerLogps = sequence_logps
    compile: Callable[..., Any] = jax.jit
    weigh: Weigh = equal_weights
    penalty: Penalise | None = None


class AnswerState(NamedTuple):
    """A policy in a game and the memory of its method.

    Attributes:
      train: params and optimiser state of pi_t.
      memory: older params, a moving average, a queue of answers, or (), depending on the method.
      round: [] int32, the number t of rounds.
    """

    train: TrainState
    memory: Any
    round: Int[Array, ""]


class AnswerMethod(NamedTuple):
    """An update rule on sampled answers.

    Attributes:
      init: params -> AnswerState.
      round: `(state, prompts, key) -> (state, metrics)`, on the host: draws answers, has them
        judged and updates. It changes nothing in place: after an error, e.g. of the judge, the old
        state is intact and the round can be repeated. Metrics are those of the last update, each a
        scalar `Mean`, and "prefs/mean", the mean preference for the first answer.
    """

    init: Callable[[Params], AnswerState]
    round: Callable[[AnswerState, Prompts, jax.Array], tuple[AnswerState, Metrics]]


def start_rounds(arena: Arena, params: Params, memory: Any = ()) -> AnswerState:
    """The state before the first round."""
    return AnswerState(init_state(params, arena.optimizer), memory, jnp.zeros((), jnp.int32))


def draw_answers(
    draw: Draw, params: Params, prompts: Prompts, key: jax.Array, count: int
) -> tuple[Trajectory, ...]:
    """`count` trajectories [B], each with one answer to each prompt."""
    drawn = draw(params, prompts, key, count).trajectory
    return tuple(jax.tree.map(lambda x, i=i: x[:, i], drawn) for i in range(count))


def judge_answers(
    arena: Arena, indices: ArrayLike, first: Trajectory, second: Trajectory
) -> Float[Array, "N"]:
    """P(first beats second), one per row; NaN without a verdict.

    Raises:
      JudgeError: the judge raised or its output is invalid; the message names the prompt.
    """
    return checked_judge(arena.judge, may_abstain=True)(np.asarray(indices), first, second)


def known_weights(
    weights: Float[Array, "N"] | None, *prefs: Float[Array, "N"]
) -> Float[Array, "N"] | None:
    """The weights, 0 for a row without one of its verdicts; None for ones."""
    known = jnp.isfinite(jnp.stack(prefs)).all(axis=0)
    if bool(known.all()):
        return weights
    return jnp.where(known, 1.0 if weights is None else weights, 0.0)
