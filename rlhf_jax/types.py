"""What crosses a border: three functions for a model, one record for what it did.

Axis letters are the ones of the whole library: `*B` free leading axes, `T` completion or horizon,
`A` actions (a vocabulary, for language), `S` states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

# Of arrays. Also what records hold: JAX rebuilds them around NumPy arrays, shapes, shardings and
# batch axes, so their fields promise a shape in the docstring and functions check it.
PyTree = Any

Scalar = float | int | Float[Array, ""]  # a number; an array may be traced or swept by vmap

Params = PyTree
Inputs = PyTree
Metrics = dict[str, Any]  # scalars, or means as (total, weight) pairs


class Policy(NamedTuple):
    """A policy is three pure functions; nothing is inherited.

    init: `key -> params`.
    logits: `(params, inputs) -> [*B, T, A]`, unnormalised, float32.
    logps: `(params, inputs, actions [*B, T]) -> token_logps [*B, T]`, float32 nats.
    """

    init: Callable[..., Params]
    logits: Callable[..., Float[Array, "*B T A"]]
    logps: Callable[..., Float[Array, "*B T"]]


class ValueFn(NamedTuple):
    """State values. init: `key -> params`; values: `(params, inputs) -> [*B, T]`, the value of the
    state *before* action t."""

    init: Callable[..., Params]
    values: Callable[..., Float[Array, "*B T"]]


class RewardFn(NamedTuple):
    """One number per answer. init: `key -> params`; scores: `(params, trajectory) -> [*B]`."""

    init: Callable[..., Params]
    scores: Callable[..., Float[Array, "*B"]]


class PreferenceFn(NamedTuple):
    """A pairwise preference model P(y beats y' | x) = sigmoid(logit), logits antisymmetric.

    init: `key -> params`; logits: `(params, first, second) -> [*B]`, float32, from two trajectories
    that answer the same prompts, with logits(y, y') = -logits(y', y)."""

    init: Callable[..., Params]
    logits: Callable[..., Float[Array, "*B"]]


class TimeStep(NamedTuple):
    """What an environment shows after an action. observation: what a policy reads; reward: scalar;
    discount: scalar, 1 while the episode goes on, 0 from its last step on."""

    observation: PyTree
    reward: Float[Array, ""]
    discount: Float[Array, ""]


class Env(NamedTuple):
    """An environment is two pure functions, for one episode; vmap and scan come from outside.

    reset: `key -> (state, observation)`.
    step: `(key, state, action) -> (state, TimeStep)`. Nothing restarts by itself.
    """

    reset: Callable[..., tuple[PyTree, PyTree]]
    step: Callable[..., tuple[PyTree, TimeStep]]


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer and the ids that mean something to a model. Facts of a checkpoint, not of code.

    tokenizer: a `tokenizers.Tokenizer`.
    pad_id: written where nothing counts. Real tokens may have it too; only masks tell them apart.
    bos_id: the first token of every prompt, or None.
    stop_ids: each of them ends an answer; the first is appended to answers given as text.
    """

    tokenizer: Any
    pad_id: int
    bos_id: int | None
    stop_ids: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of ids, V."""
        return self.tokenizer.get_vocab_size()


class Prompts(NamedTuple):
    """What is to be answered.

    inputs: pytree that only the sampler reads: ids and mask [B, P] for language, states [B] for a
      table.
    indices: [B] int, each prompt's number in its data set: its draws are counted by it, and errors
      name it.
    """

    inputs: PyTree
    indices: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trajectory:
    """What a policy was shown and did.

    inputs: pytree that only its own policy reads.
    actions: [*B, T] int.
    mask: [*B, T] bool, True where the step counts (end of sequence included).
    valid: [*B, T] bool, True where the step may be attended to, which a step that counts always is;
      tokens of a tool or an environment are valid and do not count. None: the same as the mask.
    """

    inputs: Inputs
    actions: PyTree
    mask: PyTree
    valid: PyTree = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PreferenceBatch:
    """Pairs of answers to the same inputs, the chosen one preferred.

    chosen, rejected: trajectories with leading axes [*B].
    ref_chosen_logps, ref_rejected_logps: [*B] float32 summed log-probs under the reference policy;
      None where the method needs no reference (reward models).
    weights: [*B] float32, non-negative weight of each pair in the mean; None means 1 for each. The
      population form of a loss weights every pair of answers by its probability.
    """

    chosen: Trajectory
    rejected: Trajectory
    ref_chosen_logps: PyTree = None
    ref_rejected_logps: PyTree = None
    weights: PyTree = None


class TrainState(NamedTuple):
    """Everything an update changes: params, opt_state (optax) and step (int32 scalar)."""

    params: Params
    opt_state: Any
    step: Int[Array, ""]
