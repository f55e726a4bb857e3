"""Decoding with a cache: from prompts to trajectories with their log-probs.

Log-probs come in two kinds: under the model, and under the distribution that was sampled from
(after temperature, top-k and top-p).
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import check_entries, check_fields
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.policies.language import (
    LanguageDecoder,
    language_trajectory,
    refill_caches,
    take_caches,
)
from rlhf_jax.sampling.filters import processed_logits
from rlhf_jax.sampling.keys import draw_actions, likeliest, row_keys
from rlhf_jax.types import Params, PyTree, Rollout


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How answers are drawn. Every field is static: another value compiles again.

    max_new_tokens: T, the length of every completion array.
    temperature: >= 0; 0 is greedy. top_k: 0 for no limit. top_p: in (0, 1], 1 for no limit.
    stop_ids: tokens that end an answer. The stop token is part of the answer; the mask counts it.
    pad_id: fills the places after the stop.
    rows: answers that are decoded at a time. When an eighth of them has ended, others take their
      places, so short answers do not wait for long ones; None decodes all at once.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop_ids: tuple[int, ...] = ()
    pad_id: int = 0
    rows: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "max_new_tokens")
        check_fields(self, "[0, inf)", "temperature", "top_k", "pad_id")
        check_entries("[0, inf)", stop_ids=self.stop_ids)
        check_fields(self, "(0, 1]", "top_p")
        if self.rows is not None:
            check_fields(self, "[1, inf)", "rows")


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

    Prompts of all rows are processed before the first token is drawn, whatever `config.rows` is.

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
    batch = _Batch(decoder.read(params), prompt_ids, prompt_mask, keys)
    together = config.rows is None or config.rows >= len(keys)
    found = (_all_at_once if together else _refilled)(decoder, batch, config)
    found = jax.tree.map(lambda x: x.reshape(*sample_indices.shape, *x.shape[1:]), found)
    prompts = (jnp.repeat(x[:, None], copies, axis=1) for x in (prompt_ids, prompt_mask))
    trajectory = language_trajectory(*prompts, found.ids, found.mask)
    return Rollout(trajectory, found.token_logps, found.sampling_token_logps, found.finished)


class _Batch(NamedTuple):
    """A = B K answers to be decoded, those of a prompt next to each other."""

    weights: PyTree
    prompt_ids: Int[Array, "B P"]
    prompt_mask: Bool[Array, "B P"]
    keys: Key[Array, "A"]

    def sources(self, owners: Int[Array, "R"]) -> Int[Array, "R"]:
        """Prompts of these answers; of the last one for A, which is none."""
        last, copies = len(self.keys) - 1, len(self.keys) // len(self.prompt_ids)
        return jnp.minimum(owners, last) // copies

    def prefill(self, decoder: LanguageDecoder, length: int) -> PyTree:
        """Caches of the prompts without their last token.

        The first step of the loop reads that one, so that every token is drawn by the same code.
        The pad keeps the number of columns at P.
        """
        parts = (self.prompt_ids, self.prompt_mask)
        context = (jnp.pad(x[:, :-1], ((0, 0), (1, 0))) for x in parts)
        return decoder.prefill(self.weights, *context, length)


class _Answers(NamedTuple):
    """Answers as they are handed out; see `Rollout`."""

    ids: Int[Array, "A T"]
    mask: Bool[Array, "A T"]
    token_logps: Float[Array, "A T"]
    sampling_token_logps: Float[Array, "A T"]
    finished: Bool[Array, "A"]


class _Rows(NamedTuple):
    """R answers on their way.

    A step writes line `step` mod T of the tables. They are [T, R], not [R, T]: a line is then
    contiguous.

    start: step of a row's first token. counts: its tokens so far. last_ids, positions: the token
    that is read next. finished: a stop token was drawn. done: finished, T tokens, or nobody's row.
    """

    step: Int[Array, ""]
    caches: PyTree  # of KVCache
    start: Int[Array, "R"]
    counts: Int[Array, "R"]
    last_ids: Int[Array, "R"]
    positions: Int[Array, "R"]
    finished: Bool[Array, "R"]
    done: Bool[Array, "R"]
    ids: Int[Array, "T R"]
    token_logps: Float[Array, "T R"]
    sampling_token_logps: Float[Array, "T R"]

    def answers(self, pad_id: int) -> _Answers:
        """The tables, each row from its own first token."""
        steps = jnp.arange(len(self.ids))
        lines = (self.start[:, None] + steps) % len(self.ids)
        mask = steps < self.counts[:, None]

        def read(table: Array, empty: float | int) -> Array:
            return jnp.where(mask, jnp.take_along_axis(table.T, lines, axis=1), empty)

        logps = (read(x, 0.0) for x in (self.token_logps, self.sampling_token_logps))
        return _Answers(read(self.ids, pad_id), mask, *logps, self.finished)


def _empty_rows(caches: PyTree, count: int, length: int) -> _Rows:
    """Rows of nobody."""
    zeros, done = jnp.zeros(count, jnp.int32), jnp.ones(count, bool)
    tables = (jnp.zeros((length, count), dtype) for dtype in (jnp.int32, jnp.float32, jnp.float32))
    step = jnp.asarray(0, jnp.int32)
    return _Rows(step, caches, zeros, zeros, zeros, zeros, ~done, done, *tables)


def _begin(rows: _Rows, batch: _Batch, owners: Int[Array, "R"]) -> _Rows:
    """The rows that are done begin the answers of their new owners; A is nobody."""
    sources = batch.sources(owners)
    lengths = jnp.sum(batch.prompt_mask, axis=-1, dtype=jnp.int32)
    last_ids = batch.prompt_ids[sources, -1].astype(jnp.int32)

    def fresh(new: Array, old: Array) -> Array:
        return jnp.where(rows.done, new, old)

    return rows._replace(
        start=fresh(rows.step, rows.start),
        counts=jnp.where(rows.done, 0, rows.counts),
        last_ids=fresh(last_ids, rows.last_ids),
        positions=fresh(lengths[sources] - 1, rows.positions),
        finished=rows.finished & ~rows.done,
        done=owners == len(batch.keys),
    )


def _all_at_once(decoder: LanguageDecoder, batch: _Batch, config: SamplingConfig) -> _Answers:
    """A row for each answer."""
    count, length = len(batch.keys), config.max_new_tokens
    owners = jnp.arange(count)
    caches = batch.prefill(decoder, batch.prompt_ids.shape[1] + length)
    if count > len(batch.prompt_ids):
        caches = take_caches(caches, batch.sources(owners))
    rows = _begin(_empty_rows(caches, count, length), batch, owners)
    step = partial(_step, decoder, batch.weights, batch.keys, config=config)

    def going(rows: _Rows) -> Bool[Array, ""]:
        # All rows are done after T steps; the bound is for readers of the compiled program.
        return (rows.step < length) & ~jnp.all(rows.done)

    return jax.lax.while_loop(going, step, rows).answers(config.pad_id)


class _Queue(NamedTuple):
    """A answers that share R rows.

    owners: the answer of each row, A for nobody's. following: the first answer that has no row yet.
    """

    rows: _Rows
    owners: Int[Array, "R"]
    following: Int[Array, ""]
    found: _Answers


def _refilled(decoder: LanguageDecoder, batch: _Batch, config: SamplingConfig) -> _Answers:
    """`config.rows` at a time.

    All rows write the same slot of their caches and the same line of the tables; both are rings, so
    a row may begin at any step.
    """
    assert config.rows is not None
    size, patience = config.rows, max(1, config.rows // 8)
    prompts = batch.prefill(decoder, batch.prompt_ids.shape[1])

    def unfinished(queue: _Queue) -> Bool[Array, ""]:
        return (queue.following < len(batch.keys)) | jnp.any(queue.owners < len(batch.keys))

    def turn(queue: _Queue) -> _Queue:
        queue = _next_answers(queue, batch, prompts, config.pad_id)
        busy = jnp.where(queue.following < len(batch.keys), size - patience + 1, 1)
        keys = batch.keys[jnp.minimum(queue.owners, len(batch.keys) - 1)]
        rows = jax.lax.while_loop(
            lambda rows: jnp.sum(~rows.done) >= busy,
            partial(_step, decoder, batch.weights, keys, config=config),
            queue.rows,
        )
        return queue._replace(rows=rows)

    queue = jax.lax.while_loop(unfinished, turn, _first_queue(decoder, batch, config, size))
    return queue.found


def _first_queue(
    decoder: LanguageDecoder, batch: _Batch, config: SamplingConfig, size: int
) -> _Queue:
    """Rows of nobody, and no answers yet."""
    total, columns = len(batch.keys), batch.prompt_ids.shape[1] + config.max_new_tokens
    shapes = jax.eval_shape(lambda: batch.prefill(decoder, columns))
    caches = jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:])[: x.ndim], x.dtype), shapes)
    rows = _empty_rows(caches, size, config.max_new_tokens)
    found = jax.tree.map(
        lambda x: jnp.zeros((total, *x.shape[1:]), x.dtype), rows.answers(config.pad_id)
    )
    return _Queue(rows, jnp.full(size, total, jnp.int32), jnp.asarray(0, jnp.int32), found)


def _next_answers(queue: _Queue, batch: _Batch, prompts: PyTree, pad_id: int) -> _Queue:
    """Rows that are done hand over their answers and begin the next ones."""
    rows, total = queue.rows, len(batch.keys)
    ended = jnp.where(rows.done, queue.owners, total)  # A is out of bounds and left out
    found = jax.tree.map(
        lambda x, new: x.at[ended].set(new, mode="drop"), queue.found, rows.answers(pad_id)
    )
    turns = queue.following + jnp.cumsum(rows.done, dtype=jnp.int32)
    owners = jnp.where(rows.done, jnp.minimum(turns - 1, total), queue.owners)
    caches = refill_caches(rows.caches, rows.done, prompts, batch.sources(owners))
    rows = _begin(rows._replace(caches=caches), batch, owners)
    return _Queue(rows, owners, jnp.minimum(turns[-1], total), found)


def _step(
    decoder: LanguageDecoder,
    weights: PyTree,
    keys: Key[Array, "R"],
    rows: _Rows,
    *,
    config: SamplingConfig,
) -> _Rows:
    """Reads one token per row and draws the next."""
    logits, caches = decoder.step(weights, rows.caches, rows.last_ids, rows.positions)
    ids, drawn = _draw(logits, keys, rows.counts, config)
    ids = jnp.where(rows.done, config.pad_id, ids)
    raw = token_logps(logits[:, None], ids[:, None])[:, 0]
    stops = jnp.any(ids[:, None] == jnp.asarray(config.stop_ids, jnp.int32), axis=-1)
    counts = rows.counts + ~rows.done
    finished = rows.finished | (stops & ~rows.done)
    line = rows.step % config.max_new_tokens

    def written(table: Array, new: Array) -> Array:
        # A row that waits for others keeps its own: the lines may come round again meanwhile.
        return table.at[line].set(jnp.where(rows.done, table[line], new))

    return rows._replace(
        step=rows.step + 1,
        caches=caches,
        counts=counts,
        last_ids=ids,
        positions=rows.positions + 1,
        finished=finished,
        done=rows.done | finished | (counts == config.max_new_tokens),
        ids=written(rows.ids, ids),
        token_logps=written(rows.token_logps, raw),
        sampling_token_logps=written(rows.sampling_token_logps, drawn),
    )


def _draw(
    logits: Float[Array, "R V"],
    keys: Key[Array, "R"],
    counts: Int[Array, "R"],
    config: SamplingConfig,
) -> tuple[Int[Array, "R"], Float[Array, "R"]]:
    """One token per row, and its log-prob under the distribution that it is drawn from."""
    if config.temperature == 0:
        return likeliest(logits), jnp.zeros(len(logits), jnp.float32)
    processed = processed_logits(
        logits, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
    )
    ids = draw_actions(keys, counts, processed)
    return ids, token_logps(processed[:, None], ids[:, None])[:, 0]
