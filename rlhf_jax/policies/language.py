"""Language policies: the one-token shift, padding, packing and chunking live here only.

A row is a prompt of P columns and then a completion of T; L = P + T. Some columns are padding:
normally those before the prompt and after the completion, but any may be. The hidden state of a
token predicts the next real token of its document, so a completion token is read off the last real
column before it, which is the column before it unless padding lies between.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.models import KVCache, ScalarModel, Transformer
from rlhf_jax.ops.chunked import chunked_token_logps
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.ops.masking import true_before
from rlhf_jax.types import (
    Params,
    Policy,
    PreferenceFn,
    PyTree,
    RewardFn,
    Scalar,
    Trajectory,
    ValueFn,
)

Host = Array | np.ndarray  # rows come from `data.padding`, which is NumPy


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LanguageInputs:
    """Rows of tokens, with the last T of each row as the actions.

    ids: [*B, L] int32.
    positions: [*B, L] int32, 0, 1, 2, ... over the real tokens of each segment, 0 on padding.
    segments: [*B, L] int32, 0 on padding, 1, 2, ... for packed documents. Attention stays within
      a segment.
    completion_length: T <= L, static.

    The first token of a document has nothing before it: its log-probability is that of a uniform
    guess, its value is 0, and the caller's mask must not count it. It is among the T if T = L or if
    documents are packed.
    """

    # Not annotated as arrays: JAX also rebuilds the record around shapes, shardings and NumPy.
    ids: PyTree
    positions: PyTree
    segments: PyTree
    completion_length: int = field(metadata={"static": True})


class LanguageDecoder(NamedTuple):
    """What sampling needs of a language model, the cache being opaque to it.

    prefill: `(params, ids [B, P], mask [B, P], length, copies) -> cache` with room for `length`
      tokens and B * copies rows, the copies of a row next to each other.
    step: `(params, cache, ids [B], positions [B]) -> (logits [B, V] float32, cache)`, the logits
      of the token after this one.
    """

    prefill: Callable[..., KVCache]
    step: Callable[..., tuple[Float[Array, "B V"], KVCache]]


def language_inputs(
    prompt_ids: Int[Host, "*B P"],
    prompt_mask: Bool[Host, "*B P"],
    completion_ids: Int[Host, "*B T"],
    completion_mask: Bool[Host, "*B T"],
) -> LanguageInputs:
    """Joins prompts and completions into rows, one segment each.

    Padding is skipped wherever it lies: positions count real tokens.

    Args:
      prompt_ids, prompt_mask: [*B, P]; True marks real tokens, at least one in a row.
      completion_ids, completion_mask: [*B, T]; True marks real tokens, the stop token included.
    Returns:
      Inputs with L = P + T and completion_length = T.
    Raises:
      AssertionError: leading axes differ (at trace time).
    """
    chex.assert_equal_shape([prompt_ids, prompt_mask])
    chex.assert_equal_shape([completion_ids, completion_mask])
    check_mask(prompt_mask=prompt_mask, completion_mask=completion_mask)
    check_ids(prompt_ids=prompt_ids, completion_ids=completion_ids)
    mask = jnp.concatenate([prompt_mask, completion_mask], axis=-1)
    count = jnp.cumsum(mask, axis=-1, dtype=jnp.int32)
    return LanguageInputs(
        ids=jnp.concatenate([prompt_ids, completion_ids], axis=-1).astype(jnp.int32),
        positions=jnp.where(mask, count - 1, 0),
        segments=mask.astype(jnp.int32),
        completion_length=completion_ids.shape[-1],
    )


def language_trajectory(
    prompt_ids: Int[Host, "*B P"],
    prompt_mask: Bool[Host, "*B P"],
    completion_ids: Int[Host, "*B T"],
    completion_mask: Bool[Host, "*B T"],
    valid: Bool[Host, "*B T"] | None = None,
) -> Trajectory:
    """The same rows as a trajectory: actions are the completion, counted where its mask is True.

    Args:
      prompt_ids, prompt_mask, completion_ids: as in `language_inputs`.
      completion_mask: [*B, T] True at the tokens that count, the policy's own.
      valid: [*B, T] True at real tokens, those of a tool or a user included, which are read and do
        not count; what counts is valid in any case. None: every real token counts.
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    if valid is not None:
        chex.assert_equal_shape([completion_mask, valid])
        valid = valid | completion_mask
    real = completion_mask if valid is None else valid
    inputs = language_inputs(prompt_ids, prompt_mask, completion_ids, real)
    actions, mask = jnp.asarray(completion_ids), jnp.asarray(completion_mask)
    return Trajectory(inputs=inputs, actions=actions, mask=mask, valid=valid)


def language_policy(model: Transformer, *, chunk: int = 128) -> Policy:
    """The policy of a language model.

    Args:
      model: from `models.make_transformer`.
      chunk: `logps` makes logits for this many of the T positions at a time and makes them again
        in the backward pass, so that no more than [*B, chunk, V] is held in float32. With
        T <= chunk they are made once and kept.
    Returns:
      Policy over `LanguageInputs`; actions are normally `inputs.ids[..., -T:]`.
    Raises:
      ValueError: chunk < 1.
    """
    check_range("[1, inf)", chunk=chunk)

    def logits(params, inputs):
        return model.unembed(params, _states_before(model.hidden, params, inputs))

    def logps(params, inputs, actions):
        chex.assert_shape(actions, (*inputs.ids.shape[:-1], inputs.completion_length))
        states = _states_before(model.hidden, params, inputs)
        if actions.shape[-1] <= chunk:
            return token_logps(model.unembed(params, states), actions)
        return chunked_token_logps(states, model.table(params), actions, chunk=chunk)

    return Policy(model.init, logits, logps)


def language_value(model: ScalarModel) -> ValueFn:
    """State values: the scalar of the last real token before each action, [*B, T]."""

    def values(params, inputs):
        return _states_before(model.scalars, params, inputs)

    return ValueFn(model.init, values)


def language_reward(model: ScalarModel) -> RewardFn:
    """One score per row, [*B]: the scalar at its last real token (segment not 0)."""

    def scores(params, trajectory):
        inputs = trajectory.inputs
        scalars = _per_token(model.scalars, params, inputs)
        length = inputs.ids.shape[-1]
        last = length - 1 - jnp.argmax(inputs.segments[..., ::-1] > 0, axis=-1)
        return jnp.take_along_axis(scalars, last[..., None], axis=-1)[..., 0]

    return RewardFn(model.init, scores)


def language_preference(model: ScalarModel, *, separator: int) -> PreferenceFn:
    """A pairwise preference model that reads both answers at once, so it can go round in circles.

    P(y beats y' | x) = sigmoid(f(x, y, y') - f(x, y', y)),

    f the scalar at the last real token of the row `x y separator y'`. The difference makes
    P(y beats y') + P(y' beats y) = 1 and P(y beats y) = 1/2 whatever f has learned; it costs two
    rows per comparison, and the head's bias cancels in it.

    Args:
      model: f; `models.make_reward_model` serves, with the parameters of a reward model.
      separator: id of the token between the answers, one that no answer holds, such as the <bos>
        that begins every prompt. An answer that was cut has no <eos>, so that could not tell.
    Returns:
      PreferenceFn of two trajectories over `LanguageInputs`, one document per row, for the same
      prompts, whose leading axes agree; T may differ. The prompt is read off each one's inputs.
    Raises:
      ValueError: the separator is not in the vocabulary.
    """
    check_range(f"[0, {model.config.vocab_size})", separator=separator)
    scores = language_reward(model).scores

    def logits(params, first, second):
        forward, backward = (
            _pair_row(a.inputs, b.inputs, separator) for a, b in ((first, second), (second, first))
        )
        return scores(params, forward) - scores(params, backward)

    return PreferenceFn(model.init, logits)


def language_decoder(model: Transformer) -> LanguageDecoder:
    """Cached decoding, one document per row; padding of the prompt is skipped wherever it lies."""

    def prefill(params, ids, mask, length, copies):
        count = jnp.cumsum(mask, axis=-1, dtype=jnp.int32)
        positions = jnp.where(mask, count - 1, 0)
        cache = model.prefill(params, ids, positions, mask.astype(jnp.int32), length)[1]
        if copies == 1:
            return cache
        layers, valid = jax.tree.map(
            lambda x: jnp.repeat(x, copies, axis=0), (cache.layers, cache.valid)
        )
        return cache._replace(layers=layers, valid=valid)

    def step(params, cache, ids, positions):
        hidden, cache = model.decode_step(params, cache, ids, positions)
        return model.unembed(params, hidden), cache

    return LanguageDecoder(prefill, step)


def mixture_decoder(decoder: LanguageDecoder, *, weight: Scalar) -> LanguageDecoder:
    """Decoding from the geometric mixture of two policies, token by token.

    pi(y_t | x, y_<t) proportional to pi_1(y_t | x, y_<t)^(1 - w) pi_2(y_t | x, y_<t)^w,

    whose logits are (1 - w) z_1 + w z_2. The opponent of Nash-MD, with the reference as pi_2. It
    reads and keeps two caches, so a token costs two forward passes.

    Args:
      decoder: of both policies.
      weight: w in [0, 1]; 0 draws what the first policy draws, 1 what the second does. May be
        traced.
    Returns:
      LanguageDecoder whose params are `(params, ref_params)`. The log-probs of its rollouts are
      those of the mixture.
    Raises:
      ValueError: a known weight outside [0, 1].
    Reference: Munos et al. 2023, arXiv:2312.00886, Appendix F.1.
    Departs: from Eq. 3 of the paper, as its own experiments do: that is the mixture of whole
      answers (`algos.games.opponents.mixture` for a table), which no decoder can draw from.
    """
    check_range("[0, 1]", weight=weight)

    def prefill(params, *prompt):
        return tuple(decoder.prefill(each, *prompt) for each in params)

    def step(params, caches, ids, positions):
        steps = (
            decoder.step(each, cache, ids, positions)
            for each, cache in zip(params, caches, strict=True)
        )
        (logits, ref_logits), caches = zip(*steps, strict=True)
        return (1 - weight) * logits + weight * ref_logits, caches

    return LanguageDecoder(prefill, step)


def _pair_row(first: LanguageInputs, second: LanguageInputs, separator: int) -> Trajectory:
    """Rows of the prompt, the first answer, the separator and the second answer as completion."""
    chex.assert_equal_shape([first.ids[..., 0], second.ids[..., 0]])
    start, other = (each.ids.shape[-1] - each.completion_length for each in (first, second))
    real, other_real = (jnp.asarray(each.segments) > 0 for each in (first, second))
    mark = jnp.full_like(real[..., :1], separator, dtype=jnp.int32)
    ids = [first.ids[..., start:], mark, second.ids[..., other:]]
    mask = [real[..., start:], jnp.ones_like(mark, bool), other_real[..., other:]]
    return language_trajectory(
        jnp.asarray(first.ids)[..., :start],
        real[..., :start],
        jnp.concatenate(ids, axis=-1),
        jnp.concatenate(mask, axis=-1),
    )


def _per_token(run: Callable, params: Params, inputs: LanguageInputs) -> Array:
    """[*B, L] or [*B, L, d]: a [B, L] model function on inputs of any leading axes."""
    lead, length = inputs.ids.shape[:-1], inputs.ids.shape[-1]
    rows = (part.reshape(-1, length) for part in (inputs.ids, inputs.positions, inputs.segments))
    out = run(params, *rows)
    return out.reshape(*lead, *out.shape[1:])


def _states_before(run: Callable, params: Params, inputs: LanguageInputs) -> Array:
    """What `run` says of the last real token before each of the last T, in its own segment.

    0 at padding and at the first token of a document.
    """
    out, segments = _per_token(run, params, inputs), jnp.asarray(inputs.segments)
    before, length = true_before(segments > 0), segments.shape[-1]
    own = jnp.take_along_axis(segments, jnp.maximum(before, 0), axis=-1) == segments
    before = jnp.where((before >= 0) & (segments > 0) & own, before, length)  # length: nowhere
    before = before[..., length - inputs.completion_length :]
    before = before.reshape(*before.shape, *[1] * (out.ndim - before.ndim))
    return jnp.take_along_axis(out, before, axis=segments.ndim - 1, mode="fill", fill_value=0)
