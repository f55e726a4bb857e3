"""Language policies: the one-token shift, padding, packing and chunking live here only.

A row is a prompt of P columns followed by a completion of T columns; L = P + T. Any column may be
padding, usually those before the prompt and after the completion. The hidden state of a token
predicts the next real token of its document. So the log-prob of a completion token comes from the
last real column before it, which is the previous column unless padding lies in between.
"""

from collections.abc import Callable
from dataclasses import field
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.models import ScalarModel, ScalarParts, Transformer
from rlhf_jax.models.cache import KVCache, choose_rows, resize_cache, take_rows
from rlhf_jax.ops.chunked import chunked_token_logps
from rlhf_jax.ops.features import drop_features
from rlhf_jax.ops.masking import true_before
from rlhf_jax.sharding import batch_ways, constrain
from rlhf_jax.types import (
    FeatureReward,
    Params,
    Policy,
    PreferenceFn,
    PyTree,
    RewardFn,
    Scalar,
    Trajectory,
    ValueFn,
    record,
)

LOGITS = 2**26  # in memory at a time: 256 MB in float32
Host = Array | np.ndarray  # rows come from `data.padding`, which is NumPy


@record
class LanguageInputs:
    """Rows of tokens, with the last T of each row as the actions.

    ids: [*B, L] int32.
    positions: [*B, L] int32, 0, 1, 2, ... over the real tokens of each segment, 0 on padding.
    segments: [*B, L] int32, 0 on padding, 1, 2, ... for packed documents. Attention stays within
      a segment.
    completion_length: T <= L, static.

    The first token of a document has nothing before it: its log-probability is that of a uniform
    guess, its value is 0, and the caller's mask must not count it. The T columns contain such
    tokens if T = L or if documents are packed.
    """

    ids: Array
    positions: Array
    segments: Array
    completion_length: int = field(metadata={"static": True})


class LanguageDecoder(NamedTuple):
    """The part of a language model that sampling uses.

    read: `params -> weights`, what the other two read; called once, before all of them.
    prefill: `(weights, ids [B, P], mask [B, P], length) -> caches`, any tree of aligned `KVCache`s,
      with room for `length` tokens. To sampling they are opaque; see `take_caches`.
    step: `(weights, caches, ids [B], positions [B]) -> (logits [B, V] float32, caches)`, with the
      logits of the next token.
    """

    read: Callable[[Params], PyTree]
    prefill: Callable[..., PyTree]
    step: Callable[..., tuple[Float[Array, "B V"], PyTree]]


def take_caches(caches: PyTree, rows: Int[Array, "R"]) -> PyTree:
    """These rows of all caches of a decoder."""
    return _each_cache(lambda cache: take_rows(cache, rows), caches)


def refill_caches(
    caches: PyTree, places: Bool[Array, "R"], prompts: PyTree, rows: Int[Array, "R"]
) -> PyTree:
    """The caches, aligned, with these rows of the prompts' caches where `places` is True."""

    def refill(cache: KVCache, prompts: KVCache) -> KVCache:
        slots = cache.positions.shape[1]
        new = resize_cache(take_rows(prompts, rows), slots)
        return choose_rows(places, new, resize_cache(cache, slots))

    return _each_cache(refill, caches, prompts)


def _each_cache(change: Callable[..., KVCache], *caches: PyTree) -> PyTree:
    return jax.tree.map(change, *caches, is_leaf=lambda x: isinstance(x, KVCache))


def language_inputs(
    prompt_ids: Int[Host, "*B P"],
    prompt_mask: Bool[Host, "*B P"],
    completion_ids: Int[Host, "*B T"],
    completion_mask: Bool[Host, "*B T"],
) -> LanguageInputs:
    """Joins prompts and completions into rows, one segment each.

    Padding may be anywhere: positions count real tokens only.

    Args:
      prompt_ids, prompt_mask: [*B, P]; True marks real tokens, at least one per row.
      completion_ids, completion_mask: [*B, T]; True marks real tokens, including the stop token.
    Returns:
      Inputs with L = P + T and completion_length = T.
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
      completion_mask: [*B, T] True at the tokens that count: those that the policy produced.
      valid: [*B, T] True at real tokens, including those of a tool or a user, which the policy
        reads but which do not count. Tokens that count are always valid. None: all real tokens
        count.
    """
    if valid is not None:
        chex.assert_equal_shape([completion_mask, valid])
        valid = valid | completion_mask
    real = completion_mask if valid is None else valid
    inputs = language_inputs(prompt_ids, prompt_mask, completion_ids, real)
    actions, mask = jnp.asarray(completion_ids), jnp.asarray(completion_mask)
    return Trajectory(inputs=inputs, actions=actions, mask=mask, valid=valid)


def language_policy(model: Transformer, *, chunk: int | None = None) -> Policy:
    """The policy of a language model.

    Args:
      model: from `models.make_transformer`.
      chunk: tokens of which `logps` computes the logits at a time, on each device; see
        `ops.chunked_token_logps`. None: as many as have LOGITS logits.
    Returns:
      Policy over `LanguageInputs`; actions are normally `inputs.ids[..., -T:]`.
    """
    chunk = max(LOGITS // model.config.vocab_size, 1) if chunk is None else chunk
    check_range("[1, inf)", chunk=chunk)

    mesh = model.mesh

    def whole_table(table):
        return constrain(table, mesh, "vocab", None)

    def logits(params, inputs):
        return model.unembed(params, _states_before(model.hidden, params, inputs))

    def logps(params, inputs, actions):
        chex.assert_shape(actions, (*inputs.ids.shape[:-1], inputs.completion_length))
        states = _states_before(model.hidden, params, inputs)
        return chunked_token_logps(
            states,
            model.table(params),
            actions,
            chunk=chunk,
            softcap=model.config.final_softcap,
            ways=(batch_ways(mesh), 1 if mesh is None else mesh.shape["sequence"]),
            whole=whole_table,
        )

    return Policy(model.init, logits, logps)


def language_router_loss(
    model: Transformer | ScalarModel,
) -> Callable[[Params, LanguageInputs], Float[Array, ""]]:
    """load_balance_weight times the router loss of a mixture of experts, over the real tokens.

    A function of params and inputs, for `algos.gradient.add_penalty`. It costs a forward and a
    backward pass of its own.
    """
    moe = model.config.moe
    if moe is None:
        raise ValueError("a model without experts (moe=None) has no router loss")

    def loss(params, inputs):
        return moe.load_balance_weight * model.router_loss(params, *_rows(inputs))

    return loss


def language_value(model: ScalarModel) -> ValueFn:
    """State values: the scalar of the last real token before each action, [*B, T]."""

    def values(params, inputs):
        return _states_before(model.scalars, params, inputs)

    return ValueFn(model.init, values)


def language_step_scores(model: ScalarModel) -> Callable[[Params, Trajectory], Array]:
    """Scores of steps: `(params, trajectory) -> [*B, T]`, the scalar read after each action.

    `language_value` reads it before the action.
    """

    def scores(params, trajectory):
        inputs = trajectory.inputs
        scalars = _per_token(model.scalars, params, inputs)
        return scalars[..., inputs.ids.shape[-1] - inputs.completion_length :]

    return scores


def language_reward(model: ScalarModel) -> RewardFn:
    """One score per row, [*B]: the scalar at its last real token (segment not 0)."""

    def scores(params, trajectory):
        return _at_last(model.scalars, params, trajectory.inputs)

    return RewardFn(model.init, scores)


def language_features(model: ScalarParts, *, dropout: Scalar) -> FeatureReward:
    """`language_reward` in two parts: the hidden state of the last real token, and the head.

    A view drops entries of that state with probability `dropout`; the layers below have no dropout.
    """

    def features(params, trajectory, key):
        hidden = _at_last(model.hidden, params, trajectory.inputs).astype(jnp.float32)
        return drop_features(hidden, key, rate=dropout)

    return FeatureReward(model.init, features, model.head)


def language_embedding(model: Transformer) -> Callable[[Params, Trajectory], Array]:
    """One vector per row: `(params, trajectory) -> [*B, d]` float32, the final hidden state of its
    last real token. What a frozen model knows of an answer, for heads trained on top."""

    def embedding(params, trajectory):
        return _at_last(model.hidden, params, trajectory.inputs).astype(jnp.float32)

    return embedding


def language_preference(model: ScalarModel, *, separator: int) -> PreferenceFn:
    """A pairwise preference model that reads both answers at once, so preferences may be cyclic.

    P(y beats y' | x) = sigmoid(f(x, y, y') - f(x, y', y)),

    where f is the scalar at the last real token of the row `x y separator y'`. The difference makes
    P(y beats y') + P(y' beats y) = 1 and P(y beats y) = 1/2 for every f. A comparison costs two
    rows, and the bias of the head cancels.

    Args:
      model: f, e.g. from `models.make_reward_model`, with the parameters of a reward model.
      separator: id of the token between the answers. No answer may contain it; use e.g. the <bos>
        that begins every prompt. Not <eos>: truncated answers lack it.
    Returns:
      PreferenceFn of two trajectories over `LanguageInputs`, one document per row, with the same
      prompts and leading axes; T may differ.
    """
    check_range(f"[0, {model.config.vocab_size})", separator=separator)
    scores = language_reward(model).scores

    def logits(params, first, second):
        forward, backward = (
            pair_row(a.inputs, b.inputs, separator) for a, b in ((first, second), (second, first))
        )
        return scores(params, forward) - scores(params, backward)

    return PreferenceFn(model.init, logits)


def language_decoder(model: Transformer) -> LanguageDecoder:
    """Cached decoding, one document per row; the prompt may have padding anywhere."""

    def prefill(weights, ids, mask, length):
        count = jnp.cumsum(mask, axis=-1, dtype=jnp.int32)
        positions = jnp.where(mask, count - 1, 0)
        segments = mask.astype(jnp.int32)
        return model.prefill(weights.params, ids, positions, segments, length)[1]

    def step(weights, cache, ids, positions):
        hidden, cache = model.decode_step(weights, cache, ids, positions)
        return model.unembed(weights.params, hidden), cache

    return LanguageDecoder(model.unstack, prefill, step)


def mixture_decoder(decoder: LanguageDecoder, *, weight: Scalar) -> LanguageDecoder:
    """Decoding from the geometric mixture of two policies, token by token.

    pi(y_t | x, y_<t) proportional to pi_1(y_t | x, y_<t)^(1 - w) pi_2(y_t | x, y_<t)^w,

    with logits (1 - w) z_1 + w z_2. With the reference as pi_2 it is the opponent of Nash-MD. A
    token costs two forward passes, with one cache for each policy.

    Args:
      decoder: the decoder of both policies.
      weight: w in [0, 1]; 0 draws from the first policy, 1 from the second. May be traced.
    Returns:
      LanguageDecoder with params `(params, ref_params)`. The log-probs of its rollouts are those of
      the mixture.
    Reference: Munos et al. 2023, arXiv:2312.00886, Appendix F.1.
    Departs: Eq. 3 of the paper mixes whole answers (`algos.games.opponents.mixture` for a table),
      which no decoder can draw from; the experiments of the paper mix tokens too.
    """
    check_range("[0, 1]", weight=weight)

    def read(params):
        return tuple(decoder.read(each) for each in params)

    def prefill(weights, *prompt):
        return tuple(decoder.prefill(each, *prompt) for each in weights)

    def step(weights, caches, ids, positions):
        steps = (
            decoder.step(each, cache, ids, positions)
            for each, cache in zip(weights, caches, strict=True)
        )
        (logits, ref_logits), caches = zip(*steps, strict=True)
        return (1 - weight) * logits + weight * ref_logits, caches

    return LanguageDecoder(read, prefill, step)


def pair_row(first: LanguageInputs, second: LanguageInputs, separator: int) -> Trajectory:
    """Rows of the prompt, with `first answer, separator, second answer` as the completion."""
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


def _rows(inputs: LanguageInputs) -> tuple[Array, Array, Array]:
    """Ids, positions and segments as [B, L]."""
    parts = (inputs.ids, inputs.positions, inputs.segments)
    ids, positions, segments = (part.reshape(-1, part.shape[-1]) for part in parts)
    return ids, positions, segments


def _per_token(run: Callable[..., Array], params: Params, inputs: LanguageInputs) -> Array:
    """[*B, L] or [*B, L, d]: a [B, L] model function on inputs of any leading axes."""
    lead = inputs.ids.shape[:-1]
    out = run(params, *_rows(inputs))
    return out.reshape(*lead, *out.shape[1:])


def _at_last(run: Callable[..., Array], params: Params, inputs: LanguageInputs) -> Array:
    """[*B] or [*B, d]: output of `run` at the last real token of each row."""
    out, length = _per_token(run, params, inputs), inputs.ids.shape[-1]
    last = length - 1 - jnp.argmax(inputs.segments[..., ::-1] > 0, axis=-1)
    last, axis = last[..., None], last.ndim
    last = last.reshape(*last.shape, *[1] * (out.ndim - last.ndim))
    return jnp.squeeze(jnp.take_along_axis(out, last, axis=axis), axis)


def _states_before(run: Callable[..., Array], params: Params, inputs: LanguageInputs) -> Array:
    """Output of `run` at the last real token before each of the last T columns.

    0 at padding, and at the first token of a document: a token must not see another segment.
    """
    out, segments = _per_token(run, params, inputs), jnp.asarray(inputs.segments)
    before, length = true_before(segments > 0), segments.shape[-1]
    own = jnp.take_along_axis(segments, jnp.maximum(before, 0), axis=-1) == segments
    # `length` is out of bounds, so `take_along_axis` fills 0 there.
    before = jnp.where((before >= 0) & (segments > 0) & own, before, length)
    before = before[..., length - inputs.completion_length :]
    before = before.reshape(*before.shape, *[1] * (out.ndim - before.ndim))
    return jnp.take_along_axis(out, before, axis=segments.ndim - 1, mode="fill", fill_value=0)
