"""Opponents of a step in a preference game: the policy itself, a mixture, an average."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.algos.games.steps import Schedule, at_step, scaled
from rlhf_jax.checks import check_range
from rlhf_jax.types import Scalar


class GameState(NamedTuple):
    """A policy in a game and the memory of its method.

    Attributes:
      logps: [*B, n] log-probs of the policy pi_t, in nats.
      average: [*B, n] probabilities, the mean of the policies played in the t updates so far; the
        policy itself before the first update.
      memory: older policies, a moving average, or (), depending on the method.
      step: [] int32, the number t of updates.
    """

    logps: Float[Array, "*B n"]
    average: Float[Array, "*B n"]
    memory: Any
    step: Int[Array, ""]


class Opponent(NamedTuple):
    """How the opponent follows from the run so far.

    Attributes:
      init: logps [*B, n] -> memory.
      play: state -> the opponent's logps [*B, n].
      track: (memory, next logps [*B, n]) -> memory.
    """

    init: Callable[[Array], Any]
    play: Callable[[GameState], Array]
    track: Callable[[Any, Array], Any]


def averaged(state: GameState, played: Float[Array, "*B n"]) -> Float[Array, "*B n"]:
    """Mean probabilities of the policies played, including this one, given as log-probs."""
    return state.average + (jnp.exp(played) - state.average) / (state.step + 1)


def self_play() -> Opponent:
    """pi_t itself."""
    return _stateless(lambda state: state.logps)


def mixture(ref_logps: Float[Array, "*B n"], *, weight: Scalar | Schedule) -> Opponent:
    """Geometric mixture with the reference, pi^(1 - w) mu^w, normalised over answers.

    Args:
      ref_logps: [*B, n] log mu.
      weight: w in [0, 1], the weight of the reference: eta_t beta in Nash-MD, b in Nash-MD-PG. 0 is
        self-play, 1 the reference. A number, which may be traced, or a function of t.
    Reference: Munos et al. 2023, arXiv:2312.00886, Eq. 3.
    """

    def play(state: GameState) -> Array:
        w = jnp.asarray(at_step(weight, state.step), state.logps.dtype)
        return jax.nn.log_softmax(scaled(1.0 - w, state.logps) + scaled(w, ref_logps), axis=-1)

    return _stateless(play)


def past_average() -> Opponent:
    """Mean of the policies so far, including pi_t: the opponent of fictitious play."""
    return _stateless(lambda state: jnp.log(averaged(state, state.logps)))


def moving_average(*, decay: Scalar) -> Opponent:
    """Exponential moving average of the logits, the opponent of Nash-EMA.

    Args:
      decay: in [0, 1]; 0 is self-play, 1 always plays the first policy.
    Reference: Munos et al. 2023, arXiv:2312.00886.
    Departs: the paper prints an average of the current and the first policy; here the average
      follows all policies and starts at the first.
    """
    check_range("[0, 1]", decay=decay)

    def track(memory: Array, logps: Array) -> Array:
        kept = jnp.asarray(decay, memory.dtype)
        return jax.nn.log_softmax(scaled(kept, memory) + scaled(1.0 - kept, logps), axis=-1)

    return Opponent(lambda logps: logps, lambda state: state.memory, track)


def _stateless(play: Callable[[GameState], Array]) -> Opponent:
    """An opponent that needs no memory."""
    return Opponent(lambda logps: (), play, lambda memory, logps: memory)
