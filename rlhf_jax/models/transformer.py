"""A decoder-only transformer, handed out as pure functions over plain parameters.

Flax NNX builds the layers and is split once here: parameters are nested dicts of arrays, and the
functions of `Transformer` run under plain `jax.jit`, `grad`, `vmap` and donation.

    params = {"trunk": {"embed", "layers": {...}, "norm"}, "unembed"}   ("unembed" if not tied)

Every leaf under "layers" has a leading axis of num_layers, which `lax.scan` walks. At first each
layer is the identity and embedding rows have a length of about 1. So a fresh tied model expects
every token to be repeated: that logit is about sqrt(d), where the others are about normal(0, 1).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.tree_util import keystr, tree_leaves_with_path
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import rows
from rlhf_jax.models.config import TransformerConfig
from rlhf_jax.models.layers import Block, KeysValues, RMSNorm, rotation, weight

Params = Any  # nested dict of arrays


class KVCache(NamedTuple):
    """Keys and values seen so far. S slots; every row writes the same slot.

    layers: for each layer its keys and values, [B, G, S, h] each.
    valid: [B, S] bool, slots that hold a real token (a left-padded prompt leaves False ones).
    slot: int32 scalar, the slot that the next token fills. It must stay below S.
    """

    layers: tuple[KeysValues, ...]
    valid: Bool[Array, "B S"]
    slot: Int[Array, ""]


class Transformer(NamedTuple):
    """The door: pure functions, with `config` for whoever needs a size.

    init: `key -> params`. Takes a `vmap` over keys.
    hidden: `(params, ids, positions, segments) -> [B, L, d]` after the final norm. A token
      attends to itself and to earlier tokens of its own segment; segment 0 is padding.
    unembed: `(params, hidden [*B, d]) -> logits [*B, V]`, float32.
    table: `params -> [V, d]`, the unembedding, which is the embedding itself when tied.
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
    table: Callable[..., Float[Array, "V d"]]
    prefill: Callable[..., tuple[Float[Array, "B P d"], KVCache]]
    decode_step: Callable[..., tuple[Float[Array, "B d"], KVCache]]
    axes: Callable[[], dict]


class Trunk(nnx.Module):
    """Token embedding, scanned layers, final norm: everything below a head."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        self.config = config
        table = {"vocab": config.vocab_size, "embed": config.d_model}
        self.embed = weight(rngs, config, table, config.d_model**-0.5)
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

        # Without remat the products of matrices are kept and only what is elementwise is redone:
        # less memory than keeping everything, and no slower.
        policies = jax.checkpoint_policies
        saved = policies.nothing_saveable if self.config.remat else policies.dots_saveable
        body = jax.checkpoint(layer, prevent_cse=False, policy=saved)
        # Ids of padding may be anything: no layer may see what they would look up.
        x, kept = jax.lax.scan(body, self.lookup(jnp.where(segments > 0, ids, 0)), layers)
        return self.norm(x), kept

    def step(self, cache: KVCache, ids: Int[Array, "B"], positions: Int[Array, "B"]):
        """Hidden state [B, d] of one new token per row, and the cache that holds it.

        Layers are walked one by one: a layer with arrays of its own is updated in place, where a
        scan would copy the whole cache for every token.
        """
        turn = rotation(positions, self.config)
        graph, stacked = nnx.split(self.layers)
        valid = cache.valid | (jnp.arange(cache.valid.shape[1]) == cache.slot)
        x, layers = self.lookup(ids), []
        for i, cached in enumerate(cache.layers):
            block = nnx.merge(graph, jax.tree.map(lambda w, i=i: w[i], stacked))
            x, cached = block.step(x, turn, cached, cache.slot, valid)
            layers.append(cached)
        return self.norm(x), KVCache(tuple(layers), valid, cache.slot + 1)

    def lookup(self, ids: Int[Array, "*B"]) -> Float[Array, "*B d"]:
        """Embeddings in the compute dtype, NaN where an id is not in the vocabulary."""
        return rows(self.embed[...], ids=ids).astype(self.config.dtype)


class LanguageModel(nnx.Module):
    """A trunk and an unembedding, which is the embedding itself when tied."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        self.trunk = Trunk(config, rngs)
        if not config.tied_embeddings:
            table = {"vocab": config.vocab_size, "embed": config.d_model}
            self.unembed = weight(rngs, config, table, config.d_model**-0.5)

    def table(self) -> Float[Array, "V d"]:
        """The unembedding."""
        tied = self.trunk.config.tied_embeddings
        return (self.trunk.embed if tied else self.unembed)[...]

    def logits(self, hidden: Float[Array, "*B d"]) -> Float[Array, "*B V"]:
        """Inner products with every row of the table, float32."""
        table = self.table().astype(hidden.dtype)
        return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)


def attention_mask(segments: Int[Array, "B L"]) -> Bool[Array, "B L L"]:
    """[b, l, m] is True when token l may look at token m: same real segment, and m <= l."""
    length = segments.shape[-1]
    same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, None, :] > 0)
    return same & jnp.tril(jnp.ones((length, length), bool))


def plain(build: Callable[[jax.Array], nnx.Module]):
    """Splits a module family at the door.

    Args:
      build: `key -> module`, every variable of which is a parameter.
    Returns:
      init: `key -> params`, nested dicts of arrays. bind: `params -> module`. axes: `() -> ` the
      same dicts with a tuple of axis names for each array.
    """
    graph, shapes = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))
    expected = jax.tree.map(jnp.shape, nnx.to_pure_dict(shapes))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(key)))

    def bind(params: Params) -> Any:
        _check_shapes(params, expected)
        return nnx.merge(graph, params)

    def axes() -> dict:
        named = {}
        for path, leaf in nnx.to_flat_state(shapes):
            stacked = ("layers",) if "layers" in path else ()
            named[path] = stacked + leaf.get_metadata()["axes"]
        return nnx.traversals.unflatten_mapping(named)

    return init, bind, axes


def _check_shapes(params: Params, expected: Any) -> None:
    """ValueError naming the first array that is not of this model; at trace time."""
    found = jax.tree.map(jnp.shape, params)
    if found == expected:
        return
    found, wanted = (
        {keystr(path): leaf for path, leaf in tree_leaves_with_path(tree, is_leaf=_is_shape)}
        for tree in (found, expected)
    )
    name = next(name for name in (*wanted, *found) if found.get(name) != wanted.get(name))
    raise ValueError(
        f"params{name} must be {wanted.get(name, 'left out')} in this model, got "
        f"{found.get(name, 'no array')}: these are the parameters of another one"
    )


def _is_shape(tree: Any) -> bool:
    return isinstance(tree, tuple)


def make_transformer(config: TransformerConfig) -> Transformer:
    """A language model of this size as pure functions; see `Transformer` for each."""
    init, bind, axes = plain(lambda key: LanguageModel(config, nnx.Rngs(params=key)))

    def hidden(params, ids, positions, segments):
        return bind(params).trunk(ids, positions, segments)[0]

    def unembed(params, hidden):
        return bind(params).logits(hidden)

    def table(params):
        return bind(params).table()

    def prefill(params, ids, positions, segments, length):
        states, kept = bind(params).trunk(ids, positions, segments, keep=True)
        spare = length - ids.shape[1]

        def slots(part):
            return jnp.pad(jnp.moveaxis(part, 1, 2), ((0, 0), (0, 0), (0, spare), (0, 0)))

        keys, values = kept
        layers = tuple((slots(keys[i]), slots(values[i])) for i in range(config.num_layers))
        valid = jnp.pad(segments > 0, ((0, 0), (0, spare)))
        slot = jnp.asarray(ids.shape[1], jnp.int32)
        return states, KVCache(layers, valid, slot)

    def decode_step(params, cache, ids, positions):
        return bind(params).trunk.step(cache, ids, positions)

    return Transformer(config, init, hidden, unembed, table, prefill, decode_step, axes)
