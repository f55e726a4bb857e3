"""What crosses a border: three functions for a model, records for what it read and did, and the
named kinds of function that are passed as arguments.

Axis letters are the ones of the whole library: `*B` free leading axes, `T` completion or horizon,
`A` actions (a vocabulary, for language), `S` states, `K` answers to one prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeVar, dataclass_transform, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

PyTree = Any  # of arrays

Scalar = float | int | Float[Array, ""]  # a number; an array may be traced or swept by vmap

Params = PyTree
Inputs = PyTree
Metrics = dict[str, Any]  # scalars, or means as (total, weight) pairs

_Class = TypeVar("_Class", bound=type)
_State = TypeVar("_State")
_Batch = TypeVar("_Batch", contravariant=True)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: _Class) -> _Class:
    """Makes a class a frozen dataclass that is a pytree.

    The constructor is left out of run-time type checks, because JAX also rebuilds a record around
    NumPy arrays, shapes, shardings and batch axes. Functions check the shapes that they read.
    """
    cls.__no_type_check__ = True  # ty: ignore[missing-attribute]
    return jax.tree_util.register_dataclass(dataclass(frozen=True)(cls))


class Policy(NamedTuple):
    """A policy is three pure functions; nothing is inherited.

    init: `key -> params`.
    logits: `(params, inputs) -> [*B, T, A]`, unnormalised, float32; a density raises TypeError.
    logps: `(params, inputs, actions) -> token_logps [*B, T]`, float32 nats.
    """

    init: Callable[..., Params]
    logits: Callable[..., Float[Array, "*B T A"]]
    logps: Callable[..., Float[Array, "*B T"]]


class ValueFn(NamedTuple):
    """State values. init: `key -> params`; values: `(params, inputs) -> [*B, T]`, the value of the
    state *before* action t."""

    init: Callable[..., Params]
    values: Callable[..., Float[Array, "*B T"]]


class ActionValueFn(NamedTuple):
    """A number per step, of its state and action: Q, or a reward. init: `key -> params`; values:
    `(params, inputs, actions) -> [*B, T]`."""

    init: Callable[..., Params]
    values: Callable[..., Float[Array, "*B T"]]


class RewardFn(NamedTuple):
    """One number per answer. init: `key -> params`; scores: `(params, trajectory) -> [*B]`."""

    init: Callable[..., Params]
    scores: Callable[..., Float[Array, "*B"]]


class FeatureReward(NamedTuple):
    """A reward model in two parts, for losses that also read its features. init: `key -> params`;
    features: `(params, trajectory, key) -> [*B, d]`, the key draws a dropout mask, None for none;
    head: `(params, features [*B, d]) -> [*B]`, the score."""

    init: Callable[..., Params]
    features: Callable[..., Float[Array, "*B d"]]
    head: Callable[..., Float[Array, "*B"]]


class PreferenceFn(NamedTuple):
    """A pairwise preference model P(y beats y' | x) = sigmoid(logit), logits antisymmetric.

    init: `key -> params`; logits: `(params, first, second) -> [*B]`, float32, from two trajectories
    that answer the same prompts, with logits(y, y') = -logits(y', y)."""

    init: Callable[..., Params]
    logits: Callable[..., Float[Array, "*B"]]


class VerdictFn(NamedTuple):
    """A generative judge of two answers: what it says next is A ("the first is better") or B.

    init: `key -> params`; logps: `(params, first, second) -> [*B, 2, 2]`, float32 log-probs of
    verdicts among all that the judge could say, from two trajectories that answer the same prompts.
    First axis: the order (y, y'), then (y', y); second: A, then B."""

    init: Callable[..., Params]
    logps: Callable[..., Float[Array, "*B 2 2"]]


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
        """Number of ids, V; one more than the largest, since a tokenizer may leave some out."""
        return max(self.tokenizer.get_vocab().values()) + 1


class Prompts(NamedTuple):
    """What is to be answered.

    inputs: pytree that only the sampler reads: ids and mask [B, P] for language, states [B] for a
      table.
    indices: [B] int, each prompt's number in its data set: its draws are counted by it, and errors
      name it.
    """

    inputs: PyTree
    indices: ArrayLike


@record
class Trajectory:
    """What a policy was shown and did.

    inputs: pytree that only its own policy reads.
    actions: [*B, T] int, or [*B, T, k] float under a density.
    mask: [*B, T] bool, True where the step counts (end of sequence included).
    valid: [*B, T] bool, True where the step may be attended to, which a step that counts always is;
      tokens of a tool or an environment are valid and do not count. None: the same as the mask.
    """

    inputs: Inputs
    actions: Array
    mask: Array
    valid: Array | None = None


@record
class LatentInputs:
    """Inputs of a model that is conditioned on a user. inputs: what the model without a user reads,
    with leading axes [*B]; latents: [*B, k] float32, z of the user of each row."""

    inputs: PyTree
    latents: Array


def with_latents(trajectory: Trajectory, latents: Float[Array, "*C k"]) -> Trajectory:
    """The trajectory with the latents of its users among its inputs.

    Args:
      trajectory: leading axes [*B], by the mask [*B, T].
      latents: [k], one for all rows, or [*C, k] where *C are the first of the axes *B.
    """
    rows, k = trajectory.mask.shape[:-1], latents.shape[-1]
    latents = latents.reshape(*latents.shape[:-1], *(1,) * (len(rows) + 1 - latents.ndim), k)
    inputs = LatentInputs(trajectory.inputs, jnp.broadcast_to(latents, (*rows, k)))
    return replace(trajectory, inputs=inputs)


class UserPosterior(NamedTuple):
    """q(z | comparisons of a user), a Gaussian: means [*B, k] and log_variances [*B, k]."""

    means: Float[Array, "*B k"]
    log_variances: Float[Array, "*B k"]


class UserEncoder(NamedTuple):
    """A user's latent from a few of its comparisons. init: `key -> params`; posterior: `(params,
    chosen [*B, N, d], rejected [*B, N, d], mask [*B, N]) -> UserPosterior`, from one vector for
    each answer; comparisons with mask False never matter."""

    init: Callable[..., Params]
    posterior: Callable[..., UserPosterior]


class Rollout(NamedTuple):
    """Sampled answers.

    trajectory: actions are the completions; the mask counts the stop token.
    token_logps: [*B, T] float32 nats under the model (temperature 1, no top-k or top-p); 0 where
      the mask is False.
    sampling_token_logps: [*B, T] the same under the distribution that was sampled from.
    finished: [*B] True if the answer ended with a stop id, False if it was cut at T tokens.
    """

    trajectory: Trajectory
    token_logps: Float[Array, "*B T"]
    sampling_token_logps: Float[Array, "*B T"]
    finished: Bool[Array, "*B"]


@record
class PreferenceBatch:
    """Pairs of answers to the same inputs, the chosen one preferred.

    chosen, rejected: trajectories with leading axes [*B].
    ref_chosen_logps, ref_rejected_logps: [*B] float32 summed log-probs under the reference policy;
      None where the method needs no reference (reward models).
    weights: [*B] float32, non-negative weight of each pair in the mean; None means 1 for each. The
      population form of a loss weights every pair of answers by its probability; an ensemble may
      have [*B, N], one for each member.
    columns: further arrays [*B] under the names of the loss's own arguments, e.g. "gaps" and
      "prefs"; None for none.
    """

    chosen: Trajectory
    rejected: Trajectory
    ref_chosen_logps: Array | None = None
    ref_rejected_logps: Array | None = None
    weights: Array | None = None
    columns: dict[str, Array] | None = None


class TrainState(NamedTuple):
    """Everything an update changes: params, opt_state (optax) and step (int32 scalar)."""

    params: Params
    opt_state: Any
    step: Int[Array, ""]


@runtime_checkable
class Update(Protocol[_State, _Batch]):
    """One training step, as `make_update` returns it: pure; jit, vmap and sharding come later."""

    def __call__(self, state: _State, batch: _Batch, /) -> tuple[_State, Metrics]:
        """The next state, and metrics as (total, weight) pairs."""
        ...


@runtime_checkable
class AnswerLogps(Protocol):
    """One log-probability per answer: `sequence_logps` is the sum, `mean_logps` the mean."""

    def __call__(self, token_logps: Array, mask: Array, /) -> Array:
        """[*B] from token_logps [*B, T] in nats and mask [*B, T] bool."""
        ...


@runtime_checkable
class PairLoss(Protocol):
    """An objective of pairs, e.g. `partial(dpo_loss, beta=0.1)`; beta may be traced."""

    def __call__(
        self, chosen_logps: Array, rejected_logps: Array, /, *ref_logps: Any, **columns: Any
    ) -> Array:
        """One loss per pair, [*B].

        Args:
          chosen_logps, rejected_logps: [*B] nats; first and second answer where none is chosen.
          ref_logps: ref_chosen_logps and ref_rejected_logps [*B], for a loss with a reference.
          columns: further arrays [*B] or [*B, ...] under the names of the loss's own arguments.
        """
        ...


@runtime_checkable
class RankingLoss(Protocol):
    """An objective of ranked lists, e.g. `pro_loss`."""

    def __call__(self, logps: Array, /, *args: Any, **columns: Any) -> Array:
        """One loss per list, [*B].

        Args:
          logps: [*B, K] nats, summed or averaged over tokens, of candidates sorted best first.
          columns: mask [*B, K] bool, True where the candidate is real; scores and ref_logps
            [*B, K], if the loss has such arguments.
        """
        ...


@runtime_checkable
class AnswerLoss(Protocol):
    """An objective of single answers, e.g. `partial(nash_md_pg_loss, beta=0.1)`."""

    def __call__(self, token_logps: Array, /, *args: Any, **columns: Any) -> Array:
        """One loss per answer [*B], or one per token [*B, T] for a reduction to average.

        Args:
          token_logps: [*B, T] nats.
          columns: mask [*B, T] bool, and further arrays [*B] or [*B, T] under the names of the
            loss's own arguments.
        """
        ...


@runtime_checkable
class GroupLoss(Protocol):
    """An objective of all answers to a prompt, e.g. `partial(p3o_v2_loss, clip_eps=0.2)`."""

    def __call__(self, logps: Array, /, *args: Any, **columns: Any) -> Array:
        """One loss per group, [*B].

        Args:
          logps: [*B, K] summed log-probs in nats.
          columns: further arrays [*B, K] or [*B, ...] under the names of the loss's own arguments.
        """
        ...


@runtime_checkable
class UnpairedLoss(Protocol):
    """An objective of labelled answers, e.g. `partial(kto_loss, beta=0.1)`."""

    def __call__(self, logps: Array, ref_logps: Array, labels: Array, /, **point: Any) -> Array:
        """One loss per answer, [*B].

        Args:
          logps, ref_logps: [*B] summed log-probs in nats.
          labels: [*B] bool, True for good answers.
          point: numbers of the whole batch under the names of the loss's own arguments.
        """
        ...


@runtime_checkable
class Draw(Protocol):
    """Draws answers: `sampling.draws.language_draw` of a model, `policy_draw` of a table."""

    def __call__(
        self, params: Params, prompts: Prompts, key: jax.Array, samples: int, /, first: Any = 0
    ) -> Rollout:
        """Answers with leading axes [B, samples]; `first` numbers the first answer of a prompt.

        Args:
          first: int, or [B, 1] where it differs by prompt.
        """
        ...


@runtime_checkable
class Judge(Protocol):
    """Says which of two answers to a prompt is better. Runs on the host, and may be anything:
    a reward model, a rule, a program, a service."""

    def __call__(self, indices: Any, first: Trajectory, second: Trajectory, /) -> Any:
        """P(first beats second), [N] in [0, 1], in NumPy or JAX; or a list, None for no verdict.

        Args:
          indices: [N] NumPy integers, the prompts' numbers in their data set.
          first, second: trajectories [N] that answer these prompts.
        """
        ...


@runtime_checkable
class TextReward(Protocol):
    """Scores answers as texts, on the host: a rule, a verifier, a service."""

    def __call__(
        self, prompts: Sequence[Any], answers: Sequence[str], /, **columns: Sequence[Any]
    ) -> Sequence[float | None]:
        """One number for each of N answers; None leaves an answer out.

        Args:
          prompts: N texts, or lists of messages.
          columns: name -> N values, the other fields of each prompt's record.
        """
        ...
