"""What the methods of preference games on sampled answers share: arena, state, draws, prefs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from rlhf_jax.algos.gradient import init_state
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.rewards import checked_judge
from rlhf_jax.types import Params, Policy, Prompts, TrainState, Trajectory


class Arena(NamedTuple):
    """Where a game is played.

    Attributes:
      policy: any parametrisation.
      optimizer: optax.
      draw: `(params, prompts, key, samples) -> Rollout [B, samples]` from the policy itself, at
        temperature 1: `sampling.draws.language_draw` or `policy_draw`.
      judge: on the host, `(indices [N], first [N], second [N]) -> prefs [N]`, P(first beats second)
        of two trajectories that answer the same prompts. Every answer is checked, as by
        `rewards.checked_judge`.
      ref_params: of the reference mu.
      logps: `(token_logps, mask) -> [*B]`, what the objectives of pairs are given of an answer; the
        theory has the sum, some official codes `mean_logps`.
      compile: for the pure parts. It must not donate: methods keep old params.
    """

    policy: Policy
    optimizer: optax.GradientTransformation
    draw: Callable
    judge: Callable
    ref_params: Params
    logps: Callable = sequence_logps
    compile: Callable = jax.jit


class AnswerState(NamedTuple):
    """A policy in a game and what its method remembers.

    Attributes:
      train: params and optimiser state of pi_t.
      memory: of the method: older params, a moving average, a queue of answers, or ().
      round: [] int32, t.
    """

    train: TrainState
    memory: Any
    round: Int[Array, ""]


class AnswerMethod(NamedTuple):
    """An update rule on sampled answers.

    Attributes:
      init: params -> AnswerState.
      round: `(state, prompts, key) -> (state, metrics)`, on the host: it draws answers, has them
        judged and updates. It changes nothing in place, so that after an error, of the judge too,
        the old state is still whole and the round can be made again. Metrics are those of the last
        update, each a scalar `Mean`, and "prefs/mean", the win rate that the judge gave.
    """

    init: Callable
    round: Callable


def start_rounds(arena: Arena, params: Params, memory: Any = ()) -> AnswerState:
    """The state before the first round."""
    return AnswerState(init_state(params, arena.optimizer), memory, jnp.zeros((), jnp.int32))


def draw_answers(
    draw: Callable, params: Params, prompts: Prompts, key: jax.Array, count: int
) -> tuple[Trajectory, ...]:
    """`count` trajectories [B], each with one answer to each prompt."""
    drawn = draw(params, prompts, key, count).trajectory
    return tuple(jax.tree.map(lambda x, i=i: x[:, i], drawn) for i in range(count))


def judge_answers(
    arena: Arena, indices: np.ndarray, first: Trajectory, second: Trajectory
) -> Float[Array, "N"]:
    """P(first beats second), one per row.

    Raises:
      JudgeError: the judge failed, or answered with something else; the message names the prompt.
    """
    return checked_judge(arena.judge)(indices, first, second)
