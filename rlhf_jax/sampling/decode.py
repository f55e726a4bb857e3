"""Decoding with a cache: from prompts to trajectories with their log-probs.

Log-probs come in two kinds: under the model, and under the distribution that was sampled from
(after temperature, top-k and top-p).
"""

from dataclasses import dataclass
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import check_entries, check_fields
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.policies.language import LanguageDecoder, language_trajectory
from rlhf_jax.sampling.filters import processed_logits
from rlhf_jax.sampling.keys import draw_actions, row_keys
from rlhf_jax.types import Params, PyTree, Rollout


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How answers are drawn. Every field is static: another value compiles again.

    max_new_tokens: T, the length of every completion array.
    temperature: >= 0; 0 is greedy. top_k: 0 for no limit. top_p: in (0, 1], 1 for no limit.
    stop_ids: tokens that end an answer. The stop token is part of the answer; the mask counts it.
    pad_id: fills the places after the stop.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop_ids: tuple[int, ...] = ()
    pad_id: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "max_new_tokens")
        check_fields(self, "[0, inf)", "temperature", "top_k", "pad_id")
        check_entries("[0, inf)", stop_ids=self.stop_ids)
        check_fields(self, "(0, 1]", "top_p")


class _Loop(NamedTuple):
    """State of the decoding loop for R rows.

    Tables are [T, R], not [R, T]: a step then writes one contiguous line.
    """

    step: Int[Array, ""]
    cache: PyTree  # the decoder's own
    last_ids: Int[Array, "R"]
    finished: Bool[Array, "R"]
    ids: Int[Array, "T R"]
    mask: Bool[Array, "T R"]
    token_logps: Float[Array, "T R"]
    sampling_token_logps: Float[Array, "T R"]


def sample(
    decoder: LanguageDecoder,
    params: Params,
    prompt_ids: Int[Array, "B P"],
    prompt_mask: Bool[Array, "B P"],
    key: Key[Array, ""],
    *,
    config: SamplingConfig,
    prompt_indices: Int[Array, "B"],
    sample_indices: Int[Array, "B"],
) -> Rollout:
    """One answer per prompt, stopping early once every row has finished.

    Token t of a row is drawn with fold_in(fold_in(fold_in(key, prompt), sample), t), so an answer
    does not depend on the rest of the batch, its order or the number of devices. Use `jax.jit` with
    `decoder` and `config` closed over.

    Args:
      prompt_ids, prompt_mask: [B, P]; True marks real tokens, at least one per row. Padding may be
        anywhere; in the trajectory it is on the left.
      key: typed key of this sampling step.
      prompt_indices, sample_indices: [B] int, the two counters of each row in the formula above.
    Returns:
      Rollout with leading axes [B].
    """
    chex.assert_equal_shape([prompt_indices, sample_indices])
    rollout = sample_many(
        decoder,
        params,
        prompt_ids,
        prompt_mask,
        key,
        config=config,
        prompt_indices=prompt_indices,
        sample_indices=sample_indices[:, None],
    )
    return jax.tree.map(lambda x: x[:, 0], rollout)


def sample_many(
    decoder: LanguageDecoder,
    params: Params,
    prompt_ids: Int[Array, "B P"],
    prompt_mask: Bool[Array, "B P"],
    key: Key[Array, ""],
    *,
    config: SamplingConfig,
    prompt_indices: Int[Array, "B"],
    sample_indices: Int[Array, "B K"],
) -> Rollout:
    """K answers per prompt; each prompt is processed once. Arguments as in `sample`.

    The first K answers have sample indices `jnp.broadcast_to(jnp.arange(K), (B, K))`; other indices
    draw further answers to the same prompts.

    Returns:
      Rollout with leading axes [B, K].
    """
    chex.assert_equal_shape([prompt_ids, prompt_mask])
    chex.assert_equal_shape_prefix([prompt_ids, prompt_indices, sample_indices], 1)
    copies = sample_indices.shape[1]
    keys = row_keys(key, jnp.repeat(prompt_indices, copies), sample_indices.reshape(-1))
    # Padding goes to the left, so that every prompt ends in the last column.
    order = jnp.argsort(prompt_mask, axis=-1, stable=True)
    prompt_ids, prompt_mask = (
        jnp.take_along_axis(x, order, axis=-1) for x in (prompt_ids, prompt_mask)
    )
    end = _decode(decoder, params, prompt_ids, prompt_mask, keys, config)
    ids, mask, raw, drawn = (
        table.T.reshape(*sample_indices.shape, -1)
        for table in (end.ids, end.mask, end.token_logps, end.sampling_token_logps)
    )
    prompts = (jnp.repeat(x[:, None], copies, axis=1) for x in (prompt_ids, prompt_mask))
    trajectory = language_trajectory(*prompts, ids, mask)
    return Rollout(trajectory, raw, drawn, end.finished.reshape(sample_indices.shape))


def _decode(
    decoder: LanguageDecoder,
    params: Params,
    prompt_ids: Int[Array, "B P"],
    prompt_mask: Bool[Array, "B P"],
    keys: Key[Array, "R"],
    config: SamplingConfig,
) -> _Loop:
    """The decoding loop over R = B K rows: each step reads one token per row and draws the next."""
    rows, length = keys.shape[0], config.max_new_tokens
    copies = rows // prompt_ids.shape[0]
    prompt_lengths = jnp.repeat(jnp.sum(prompt_mask, axis=-1, dtype=jnp.int32), copies)
    # Prefill without the last token: the first step of the loop reads it, so that every token is
    # drawn by the same code. The pad keeps the number of columns at P.
    context = (jnp.pad(x[:, :-1], ((0, 0), (1, 0))) for x in (prompt_ids, prompt_mask))
    start = _Loop(
        step=jnp.asarray(0, jnp.int32),
        cache=decoder.prefill(params, *context, prompt_ids.shape[1] + length, copies),
        last_ids=jnp.repeat(prompt_ids[:, -1].astype(jnp.int32), copies),
        finished=jnp.zeros((rows,), bool),
        ids=jnp.full((length, rows), config.pad_id, jnp.int32),
        mask=jnp.zeros((length, rows), bool),
        token_logps=jnp.zeros((length, rows), jnp.float32),
        sampling_token_logps=jnp.zeros((length, rows), jnp.float32),
    )

    def body(loop: _Loop) -> _Loop:
        positions = prompt_lengths - 1 + loop.step
        logits, cache = decoder.step(params, loop.cache, loop.last_ids, positions)
        return _append(loop._replace(cache=cache), logits, keys, config)

    def unfinished(loop: _Loop) -> Bool[Array, ""]:
        return (loop.step < length) & ~jnp.all(loop.finished)

    return jax.lax.while_loop(unfinished, body, start)


def _append(
    loop: _Loop, logits: Float[Array, "R V"], keys: Key[Array, "R"], config: SamplingConfig
) -> _Loop:
    """Draws one token per row; rows that have finished get `pad_id` and do not count."""
    processed = processed_logits(
        logits, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
    )
    greedy = config.temperature == 0
    ids = jnp.argmax(processed, axis=-1) if greedy else draw_actions(keys, loop.step, processed)
    counted = ~loop.finished
    ids = jnp.where(counted, ids, config.pad_id).astype(jnp.int32)
    raw, drawn = (
        jnp.where(counted, token_logps(x[:, None], ids[:, None])[:, 0], 0.0)
        for x in (logits, processed)
    )
    stops = jnp.asarray(config.stop_ids, jnp.int32)
    return loop._replace(
        step=loop.step + 1,
        last_ids=ids,
        finished=loop.finished | jnp.any(ids[:, None] == stops, axis=-1),
        ids=loop.ids.at[loop.step].set(ids),
        mask=loop.mask.at[loop.step].set(counted),
        token_logps=loop.token_logps.at[loop.step].set(raw),
        sampling_token_logps=loop.sampling_token_logps.at[loop.step].set(drawn),
    )
