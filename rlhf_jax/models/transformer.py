"""A decoder-only transformer, handed out as pure functions over plain parameters.

Flax NNX builds the layers and is split once here: parameters are nested dicts of arrays, and the
functions of `Transformer` run under plain `jax.jit`, `grad`, `vmap` and donation.

    params = {"trunk": {"embed", "layers": {...}, "norm"}, "unembed"}   ("unembed" if not tied)

Every leaf under "layers" has a leading axis of num_layers, which `lax.scan` walks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.models.config import TransformerConfig
from rlhf_jax.models.layers import Block, RMSNorm, rotation, weight

Params = Any  # nested dict of arrays


class KVCache(NamedTuple):
    """Keys and values seen so far. S slots; every row writes the same slot.

    keys, values: [N, B, G, S, h], N layers.
    valid: [B, S] bool, slots that hold a real token (a left-padded prompt leaves False ones).
    slot: int32 scalar, the slot that the next token fills. It must stay below S.
    """

    keys: Float[Array, "N B G S h"]
    values: Float[Array, "N B G S h"]
    valid: Bool[Array, "B S"]
    slot: Int[Array, ""]


class Transformer(NamedTuple):
    """The door: pure functions, with `config` for whoever needs a size.

    init: `key -> params`. Takes a `vmap` over keys.
    hidden: `(params, ids, positions, segments) -> [B, L, d]` after the final norm. A token
      attends to itself and to earlier tokens of its own segment; segment 0 is padding.
    unembed: `(params, hidden [*B, d]) -> logits [*B, V]`, float32.
    prefill: `(params, ids, positions, segments, length) -> (hidden [B, P, d], KVCache)`; the
      cache has `length` slots, the first P filled. One segment per row.
    decode_step: `(params, cache, ids [B], positions [B]) -> (hidden [B, d], KVCache)`.
    axes: `() -> ` a dict like params whose leaves are tuples of logical axis names, from
      "layers", "vocab", "embed", "heads", "kv_heads", "head_dim", "mlp".
    """

    config: TransformerConfig
    init: Callable[..., Params]
    hidden: Callable[..., Float[Array, "B L d"]]
    unembed: Callable[..., Float[Array, "*B V"]]
    prefill: Callable[..., tuple[Float[Array, "B P d"], KVCache]]
    decode_step: Callable[..., tuple[Float[Array, "B d"], KVCache]]
    axes: Callable[[], dict]


class Trunk(nnx.Module):
    """Token embedding, scanned layers, final norm: everything below a head."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        self.config = config
        table = {"vocab": config.vocab_size, "embed": config.d_model}
        self.embed = weight(rngs, config, table, 0.02)
        keys = jax.random.split(rngs.params(), config.num_layers)
        self.layers = jax.vmap(lambda key: Block(config, nnx.Rngs(params=key)))(keys)
        self.norm = RMSNorm(config)

    def __call__(
        self,
        ids: Int[Array, "B L"],
        positions: Int[Array, "B L"],
        segments: Int[Array, "B L"],
        *,
        keep: bool = False,
    ):
        """Hidden states [B, L, d] and, if `keep`, keys and values [N, B, L, G, h], else None."""
        turn = rotation(positions, self.config)
        mask = attention_mask(segments)
        graph, layers = nnx.split(self.layers)

        def layer(x, params):
            x, kept = nnx.merge(graph, params)(x, turn, mask)
            return x, kept if keep else None

        body = jax.checkpoint(layer, prevent_cse=False) if self.config.remat else layer
        x, kept = jax.lax.scan(body, self.lookup(ids), layers)
        return self.norm(x), kept

    def step(self, cache: KVCache, ids: Int[Array, "B"], positions: Int[Array, "B"]):
        """Hidden state [B, d] of one new token per row, and the cache that holds it."""
        turn = rotation(positions, self.config)
        graph, layers = nnx.split(self.layers)

        def layer(x, inputs):
            params, cached = inputs
            return nnx.merge(graph, params).step(x, turn, cached, cache.valid)

        x, new = jax.lax.scan(layer, self.lookup(ids), (layers, (cache.keys, cache.values)))
        return self.norm(x), write(cache, *new)

    def lookup(self, ids: Int[Array, "*B"]) -> Float[Array, "*B d"]:
        """Embeddings in the compute dtype."""
        return self.embed[...][ids].astype(self.config.dtype)


class LanguageModel(nnx.Module):
    """A trunk and an unembedding, which is the embedding itself when tied."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        self.trunk = Trunk(config, rngs)
        if not config.tied_embeddings:
            table = {"vocab": config.vocab_size, "embed": config.d_model}
            self.unembed = weight(rngs, config, table, config.d_model**-0.5)

    def logits(self, hidden: Float[Array, "*B d"]) -> Float[Array, "*B V"]:
        """Inner products with every row of the table, float32."""
        tied = self.trunk.config.tied_embeddings
        table = (self.trunk.embed if tied else self.unembed)[...].astype(hidden.dtype)
        return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)


def attention_mask(segments: Int[Array, "B L"]) -> Bool[Array, "B L L"]:
    """[b, l, m] is True when token l may look at token m: same real segment, and m <= l."""
    length = segments.shape[-1]
    same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, None, :] > 0)
    return same & jnp.tril(jnp.ones((length, length), bool))


def write(
    cache: KVCache, keys: Float[Array, "N B G h"], values: Float[Array, "N B G h"]
) -> KVCache:
    """Puts one token of every row and layer into the current slot."""
    at = (0, 0, 0, cache.slot, 0)
    return KVCache(
        keys=jax.lax.dynamic_update_slice(cache.keys, keys[:, :, :, None], at),
        values=jax.lax.dynamic_update_slice(cache.values, values[:, :, :, None], at),
        valid=cache.valid | (jnp.arange(cache.valid.shape[1]) == cache.slot),
        slot=cache.slot + 1,
    )


def plain(build: Callable[[jax.Array], nnx.Module]):
    """Splits a module family at the door.

    Args:
      build: `key -> module`, every variable of which is a parameter.
    Returns:
      init: `key -> params`, nested dicts of arrays. bind: `params -> module`. axes: `() -> ` the
      same dicts with a tuple of axis names for each array.
    """
    graph, shapes = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(key)))

    def bind(params: Params) -> Any:
        return nnx.merge(graph, params)

    def axes() -> dict:
        named = {}
        for path, leaf in nnx.to_flat_state(shapes):
            stacked = ("layers",) if "layers" in path else ()
            named[path] = stacked + leaf.get_metadata()["axes"]
        return nnx.traversals.unflatten_mapping(named)

    return init, bind, axes


def make_transformer(config: TransformerConfig) -> Transformer:
    """A language model of this size as pure functions; see `Transformer` for each."""
    init, bind, axes = plain(lambda key: LanguageModel(config, nnx.Rngs(params=key)))

    def hidden(params, ids, positions, segments):
        return bind(params).trunk(ids, positions, segments)[0]

    def unembed(params, hidden):
        return bind(params).logits(hidden)

    def prefill(params, ids, positions, segments, length):
        states, kept = bind(params).trunk(ids, positions, segments, keep=True)
        room = ((0, 0), (0, 0), (0, 0), (0, length - ids.shape[1]), (0, 0))
        keys, values = (jnp.pad(jnp.moveaxis(part, 2, 3), room) for part in kept)
        valid = jnp.pad(segments > 0, ((0, 0), (0, length - ids.shape[1])))
        slot = jnp.asarray(ids.shape[1], jnp.int32)
        return states, KVCache(keys=keys, values=values, valid=valid, slot=slot)

    def decode_step(params, cache, ids, positions):
        return bind(params).trunk.step(cache, ids, positions)

    return Transformer(config, init, hidden, unembed, prefill, decode_step, axes)
