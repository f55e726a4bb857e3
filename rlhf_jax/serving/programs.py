"""Answers of several requests decoded together: the compiled functions.

Each row has its own prompt and its own way of drawing, all of them traced: one program serves every
temperature. Rows join a batch with their newest tokens in the same slot. Shapes are powers of two:
with R sizes of batches and C numbers of columns at most R C programs of each kind are compiled, C^2
of `resize`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.models import Transformer
from rlhf_jax.models.cache import KVCache, join_rows, resize_cache, take_rows
from rlhf_jax.models.transformer import Unstacked
from rlhf_jax.ops.logprobs import tempered
from rlhf_jax.sampling.filters import top_p_logits
from rlhf_jax.sampling.keys import draw_actions, likeliest
from rlhf_jax.types import Params, record

LIKELIEST = 20  # tokens whose log-probs may be asked for
BLOCK = 128  # columns of the prompt that are scored at a time


@record
class Drawing:
    """How each of B answers is drawn.

    seed, sample: counters of the key; token t is drawn with fold_in(fold_in(key(seed), sample), t).
    temperature: 0 takes the likeliest token. top_p: in (0, 1]. likeliest: whether log-probs of the
    likeliest tokens are asked for.
    """

    seed: Array
    sample: Array
    temperature: Array
    top_p: Array
    likeliest: Array


@record
class EngineRows:
    """B answers on their way.

    last_ids: [B] tokens that are read next. positions: [B] theirs. step: [B] tokens drawn so far.
    """

    cache: KVCache
    last_ids: Array
    positions: Array
    step: Array
    drawing: Drawing


class TokenTable(NamedTuple):
    """Tokens with their log-probs under the model, and the likeliest ones, largest first.

    [steps, B] and [steps, B, LIKELIEST] of answers; of prompts [b, P], the token after each one.
    """

    ids: Int[Array, "*T"]
    logps: Float[Array, "*T"]
    likeliest: Int[Array, "*T L"]
    likeliest_logps: Float[Array, "*T L"]


class EnginePrograms(NamedTuple):
    """Compiled functions.

    unstack: `params -> weights`, for `decode`; once for all calls.
    prefill: `(params, ids [b, P], lengths [b]) -> (hidden [b, P, d], cache)`, ids on the right.
    score: `(params, hidden, next_ids [b, P]) -> TokenTable [b, P]`.
    start: `(cache, i, length, last_id, drawing [1]) -> EngineRows [1]` after prompt i.
    resize: `(rows, slots) -> rows` with this number of slots, aligned.
    stack: `([rows, ...]) -> rows` side by side, after `resize`. take: `(rows, i) -> rows [1]`.
    decode: `(weights, rows, steps) -> (rows, TokenTable [steps, B])`; reuses the memory of rows.
    """

    unstack: Callable[..., Unstacked]
    prefill: Callable[..., Any]
    score: Callable[..., TokenTable]
    start: Callable[..., EngineRows]
    resize: Callable[..., EngineRows]
    stack: Callable[..., EngineRows]
    take: Callable[..., EngineRows]
    decode: Callable[..., tuple[EngineRows, TokenTable]]


def make_programs(model: Transformer) -> EnginePrograms:
    """The programs of one model."""
    return EnginePrograms(
        unstack=jax.jit(model.unstack),
        prefill=jax.jit(partial(_prefill, model)),
        score=jax.jit(partial(_score, model)),
        start=jax.jit(_start),
        resize=jax.jit(_resize, static_argnames="slots"),
        stack=jax.jit(_stack),
        take=jax.jit(_take),
        decode=jax.jit(partial(_decode, model), static_argnames="steps", donate_argnums=1),
    )


def compiled_count(programs: EnginePrograms) -> int:
    """How many programs have been compiled so far."""
    return sum(cast(Any, function)._cache_size() for function in programs)


def _prefill(
    model: Transformer, params: Params, ids: Int[Array, "b P"], lengths: Int[Array, "b"]
) -> tuple[Float[Array, "b P d"], KVCache]:
    columns = ids.shape[1]
    positions = jnp.arange(columns) - (columns - lengths[:, None])
    real = positions >= 0
    return model.prefill(params, ids, jnp.maximum(positions, 0), real.astype(jnp.int32), columns)


def _score(
    model: Transformer, params: Params, hidden: Float[Array, "b P d"], next_ids: Int[Array, "b P"]
) -> TokenTable:
    size = min(BLOCK, hidden.shape[1])
    short = -hidden.shape[1] % size

    def blocks(x: Array) -> Array:
        padded = jnp.pad(x, ((0, 0), (0, short)) + ((0, 0),) * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(len(x), -1, size, *x.shape[2:]), 1, 0)

    def one(block: tuple[Array, Array]) -> TokenTable:
        states, ids = block
        return _described(model.unembed(params, states), ids, jnp.asarray(True))

    table = jax.lax.map(one, (blocks(hidden), blocks(next_ids)))
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(len(hidden), -1, *x.shape[3:])[
            :, : hidden.shape[1]
        ],
        table,
    )


def _described(
    logits: Float[Array, "*B V"], ids: Int[Array, "*B"], wanted: Bool[Array, ""]
) -> TokenTable:
    """The tokens' log-probs, and the likeliest tokens if they are wanted."""
    logps = jax.nn.log_softmax(logits)
    own = jnp.take_along_axis(logps, ids[..., None], axis=-1)[..., 0]
    count = min(LIKELIEST, logits.shape[-1])

    def nothing(logps: Array) -> tuple[Array, Array]:
        shape = (*ids.shape, count)
        return jnp.zeros(shape, logps.dtype), jnp.zeros(shape, jnp.int32)

    values, likeliest = jax.lax.cond(
        wanted, lambda x: tuple(jax.lax.top_k(x, count)), nothing, logps
    )
    return TokenTable(ids, own, likeliest, values)


def _start(
    cache: KVCache,
    i: Int[Array, ""],
    length: Int[Array, ""],
    last_id: Int[Array, ""],
    drawing: Drawing,
) -> EngineRows:
    step = jnp.zeros((1,), jnp.int32)
    return EngineRows(take_rows(cache, i[None]), last_id[None], length[None], step, drawing)


def _take(rows: EngineRows, i: Int[Array, ""]) -> EngineRows:
    parts = (rows.last_ids, rows.positions, rows.step, rows.drawing)
    return EngineRows(take_rows(rows.cache, i[None]), *jax.tree.map(lambda x: x[i[None]], parts))


def _resize(rows: EngineRows, slots: int) -> EngineRows:
    return replace(rows, cache=resize_cache(rows.cache, slots))


def _stack(parts: list[EngineRows]) -> EngineRows:
    cache = join_rows([part.cache for part in parts])
    fields = [(part.last_ids, part.positions, part.step, part.drawing) for part in parts]
    return EngineRows(cache, *jax.tree.map(lambda *x: jnp.concatenate(x), *fields))


def _decode(
    model: Transformer, weights: Unstacked, rows: EngineRows, steps: int
) -> tuple[EngineRows, TokenTable]:
    def body(rows: EngineRows, _: None) -> tuple[EngineRows, TokenTable]:
        hidden, cache = model.decode_step(weights, rows.cache, rows.last_ids, rows.positions)
        logits = model.unembed(weights.params, hidden)
        ids = _draw(logits, rows)
        table = _described(logits, ids, jnp.any(rows.drawing.likeliest))
        return EngineRows(cache, ids, rows.positions + 1, rows.step + 1, rows.drawing), table

    return jax.lax.scan(body, rows, None, length=steps)


def _draw(logits: Float[Array, "B V"], rows: EngineRows) -> Int[Array, "B"]:
    """One token per row, each in the way that its request asks for."""
    how = rows.drawing
    greedy = how.temperature == 0
    warm = jnp.where(greedy, 1.0, how.temperature)
    processed = jax.vmap(lambda z, t: tempered(z, temperature=t))(logits, warm)

    def nucleus(z: Array) -> Array:
        kept = jax.vmap(lambda row, p: top_p_logits(row, p=p))(z, how.top_p)
        return jnp.where(how.top_p[:, None] < 1, kept, z)

    processed = jax.lax.cond(jnp.any(how.top_p < 1), nucleus, lambda z: z, processed)

    def key(seed: Array, sample: Array) -> Key[Array, ""]:
        return jax.random.fold_in(jax.random.key(seed), sample)

    drawn = draw_actions(jax.vmap(key)(how.seed, how.sample), rows.step, processed)
    return jnp.where(greedy, likeliest(logits), drawn)
