"""A decoder-only transformer as pure functions over plain parameters.

Flax NNX builds the layers, and this file splits them into parameters, which are nested dicts of
arrays, and the pure functions of `Transformer`, which work with `jax.jit`, `grad` and `vmap`.

    params = {"trunk": {"embed", "layers": {...}, "norm"}, "unembed"}   ("unembed" if not tied)

The trunk also has "positions" if they are learned. Every leaf under "layers" has a leading axis of
num_layers for `lax.scan`. A leaf may also be a `low_rank.LowRank`. At the start each layer is the
identity and embedding rows have length about 1. So a new model with tied embeddings predicts that
every token repeats: that logit is about sqrt(d), the others are about normal(0, 1).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.tree_util import DictKey, keystr, tree_leaves_with_path
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import rows
from rlhf_jax.models.attend import RowView
from rlhf_jax.models.attention import View
from rlhf_jax.models.block import Block
from rlhf_jax.models.blockwise import SAVED, Tokens
from rlhf_jax.models.cache import KVCache, filled_cache, recent
from rlhf_jax.models.config import Remat, TransformerConfig
from rlhf_jax.models.layers import Norm, softcap, weight
from rlhf_jax.models.low_rank import is_low_rank, summed
from rlhf_jax.models.rotary import rotation
from rlhf_jax.sharding import constrain

Params = Any  # nested dict of arrays


class Unstacked(NamedTuple):
    """Parameters for decoding: `params`, and its layers one by one, low-rank changes summed up.

    Made once for many tokens. A product with one layer of a stack would copy that layer first, so
    every token would read and write all weights once more.
    """

    params: Params
    layers: tuple[Params, ...]


class Transformer(NamedTuple):
    """A language model as pure functions, and its config.

    init: `key -> params`. Works under `vmap` over keys.
    hidden: `(params, ids, positions, segments) -> [B, L, d]` after the final norm. A token
      attends to itself and to earlier tokens of its own segment; segment 0 is padding. Positions
      count the real tokens of a segment, and so do sliding windows.
    unembed: `(params, hidden [*B, d]) -> logits [*B, V]`, float32.
    table: `params -> [V, d]`, the unembedding; with tied embeddings this is the embedding. Logits
      are `softcap(hidden @ table^T, final_softcap)`.
    prefill: `(params, ids, positions, segments, length) -> (hidden [B, P, d], KVCache)`, one
      segment per row. The cache is aligned and has room for `length` tokens: if all layers have a
      sliding window, no more than that many slots.
    unstack: `params -> Unstacked`, for `decode_step`.
    decode_step: `(unstacked, cache, ids [B], positions [B]) -> (hidden [B, d], KVCache)`.
    axes: `() -> ` a dict like params with tuples of logical axis names as leaves, from "layers",
      "vocab", "positions", "embed", "heads", "kv_heads", "head_dim", "mlp", "experts".
    router_loss: `(params, ids, positions, segments) -> ` the load-balance loss of a mixture of
      experts, mean over the layers; padding does not count. To train with it, add
      `config.moe.load_balance_weight * router_loss(...)` to the objective.
    mesh: of `make_transformer`.
    """

    config: TransformerConfig
    init: Callable[..., Params]
    hidden: Callable[..., Float[Array, "B L d"]]
    unembed: Callable[..., Float[Array, "*B V"]]
    table: Callable[..., Float[Array, "V d"]]
    prefill: Callable[..., tuple[Float[Array, "B P d"], KVCache]]
    unstack: Callable[[Params], Unstacked]
    decode_step: Callable[..., tuple[Float[Array, "B d"], KVCache]]
    axes: Callable[[], dict]
    router_loss: Callable[..., Float[Array, ""]]
    mesh: Mesh | None = None


class Trunk(nnx.Module):
    """Token embedding, scanned layers, final norm: everything below a head."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, mesh: Mesh | None):
        self.config, self.mesh = config, mesh
        table = {"vocab": config.vocab_size, "embed": config.d_model}
        self.embed = weight(rngs, config, table, config.d_model**-0.5)
        keys = jax.random.split(rngs.params(), config.num_layers)
        self.layers = jax.vmap(lambda key: Block(config, nnx.Rngs(params=key), mesh))(keys)
        self.norm = Norm(config, {"embed": config.d_model})
        if config.positions == "learned" and config.max_positions:
            places = {"positions": config.max_positions, "embed": config.d_model}
            self.positions = weight(rngs, config, places, config.d_model**-0.5)

    def __call__(
        self,
        ids: Int[Array, "B L"],
        positions: Int[Array, "B L"],
        segments: Int[Array, "B L"],
        *,
        keep: bool = False,
    ):
        """Hidden states [B, L, d], keys and values [N, B, L, G, h] if `keep`, router losses [N].

        The latter two are None without `keep` and without experts.
        """
        length, extra = ids.shape[1], self.filling(ids.shape[1])
        ids, positions, segments = (
            jnp.pad(x, ((0, 0), (0, extra))) for x in (ids, positions, segments)
        )
        real = segments > 0
        views = {local: self.row_view(positions, segments, local=local) for local in self.kinds}
        graph, layers = nnx.split(self.layers)

        def layer(x, scanned):
            params, local = scanned
            block = nnx.merge(graph, summed(params))
            x, kept, loss = block(x, choose_view(views, local), real)
            x = constrain(x, self.mesh, "batch", "length", None)
            return x, (kept if keep else None, loss)

        body = jax.checkpoint(layer, prevent_cse=False, policy=remat_policy(self.config.remat))
        # Padding may have any id, also one outside the vocabulary: look up token 0 there.
        start = self.lookup(jnp.where(real, ids, 0), positions)
        start = constrain(start, self.mesh, "batch", "length", None)
        x, (kept, losses) = jax.lax.scan(body, start, (layers, np.array(self.config.local_layers)))
        kept = jax.tree.map(lambda part: part[:, :, :length], kept)
        return self.norm(x)[:, :length], kept, losses

    def filling(self, length: int) -> int:
        """Columns of padding to add, so that the devices that split a row get equal parts."""
        return 0 if self.mesh is None else -length % self.mesh.shape["sequence"]

    def step(
        self,
        layers: tuple[Params, ...],
        cache: KVCache,
        ids: Int[Array, "B"],
        positions: Int[Array, "B"],
    ) -> tuple[Float[Array, "B d"], KVCache]:
        """Hidden state of one new token per row, and the cache with that token.

        A Python loop over the layers, not a scan: each layer's cache is an array of its own, which
        XLA updates in place, while a scan would copy the whole cache for every token.
        """
        graph, _ = nnx.split(self.layers)
        seen = jax.lax.dynamic_update_slice(cache.positions, positions[:, None], (0, cache.slot))
        views = {local: self.view(positions, seen, local=local) for local in self.kinds}
        x, kept = constrain(self.lookup(ids, positions), self.mesh, "batch", None), []
        for layer, local, cached in zip(
            layers, self.config.local_layers, cache.layers, strict=True
        ):
            x, cached = nnx.merge(graph, layer).step(x, views[local], cached, cache.slot)
            kept.append(cached)
        return self.norm(x), KVCache(tuple(kept), seen, (cache.slot + 1) % seen.shape[1])

    @property
    def kinds(self) -> set[bool]:
        """True for local layers, False for global ones, as far as there are any."""
        return set(self.config.local_layers)

    def row_view(
        self, positions: Int[Array, "B L"], segments: Int[Array, "B L"], *, local: bool
    ) -> RowView:
        """What the tokens of rows see in local or global layers."""
        columns = jnp.broadcast_to(jnp.arange(segments.shape[1], dtype=jnp.int32), segments.shape)
        first = None
        if self.config.sliding_window is not None:
            reach = self.config.sliding_window - 1 if local else jnp.iinfo(jnp.int32).max
            first = positions - reach
        turn = rotation(positions, self.config, local=local)
        return RowView(turn, Tokens(segments, positions, columns, first), local)

    def view(self, positions: Int[Array, "B"], seen: Int[Array, "B S"], *, local: bool) -> View:
        """What the new token of each row sees in local or global layers."""
        window = self.config.sliding_window if local else None
        return View(rotation(positions, self.config, local=local), recent(seen, positions, window))

    def lookup(self, ids: Int[Array, "*B"], positions: Int[Array, "*B"]) -> Float[Array, "*B d"]:
        """Embeddings in the compute dtype, NaN where an id or a learned position has no row."""
        x = rows(self.embed[...], ids=ids).astype(self.config.dtype)
        if self.config.embed_scale:
            x = x * jnp.asarray(self.config.d_model**0.5, x.dtype)
        if self.config.positions == "learned":
            x = x + rows(self.positions[...], positions=positions).astype(x.dtype)
        return x


class LanguageModel(nnx.Module):
    """A trunk and an unembedding (with tied embeddings, the embedding itself)."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, mesh: Mesh | None):
        self.trunk = Trunk(config, rngs, mesh)
        if not config.tied_embeddings:
            table = {"vocab": config.vocab_size, "embed": config.d_model}
            self.unembed = weight(rngs, config, table, config.d_model**-0.5)

    def table(self) -> Float[Array, "V d"]:
        """The unembedding."""
        tied = self.trunk.config.tied_embeddings
        return (self.trunk.embed if tied else self.unembed)[...]

    def logits(self, hidden: Float[Array, "*B d"]) -> Float[Array, "*B V"]:
        """Inner products with the rows of the table, float32, soft-capped."""
        table = self.table().astype(hidden.dtype)
        logits = jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
        inner = [None] * (logits.ndim - 2)
        logits = constrain(logits, self.trunk.mesh, "batch", *inner, "vocab")
        return softcap(logits, self.trunk.config.final_softcap)


def remat_policy(name: Remat) -> Callable[..., bool]:
    """What a layer keeps for its backward pass; the rest is computed again.

    The output of attention that is not dense is kept where products are: no policy of JAX knows it,
    and it would be computed twice.
    """
    policies = jax.checkpoint_policies
    policy = getattr(policies, f"{name}_saveable")
    if name == "nothing":
        return policy
    return policies.save_from_both_policies(policy, policies.save_only_these_names(SAVED))


def choose_view(views: dict[bool, RowView], local: bool | Bool[Array, ""]) -> RowView:
    """The view of a layer in a scan, where `local` is traced."""
    if len(views) == 1:
        return next(iter(views.values()))
    return jax.tree.map(lambda a, b: jnp.where(local, a, b), views[True], views[False])


def plain(build: Callable[[jax.Array], nnx.Module]):
    """Pure functions of a Flax module.

    Args:
      build: `key -> module`; all its variables must be parameters.
    Returns:
      init: `key -> params`, nested dicts of arrays. bind: `params -> module`. axes: `() -> ` the
      same dicts with a tuple of axis names for each array.
    """
    graph, shapes = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))
    expected = _shapes(nnx.to_pure_dict(shapes))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(key)))

    def bind(params: Params) -> Any:
        _check_shapes(params, expected)
        # Within the layers the scan does it, one layer at a time.
        return nnx.merge(graph, summed(params, where=lambda path: DictKey("layers") not in path))

    def axes() -> dict:
        named = {}
        for path, leaf in nnx.to_flat_state(shapes):
            stacked = ("layers",) if "layers" in path else ()
            named[path] = stacked + leaf.get_metadata()["axes"]
        return nnx.traversals.unflatten_mapping(named)

    return init, bind, axes


def _check_shapes(params: Params, expected: Any) -> None:
    """ValueError at trace time, naming the first array with another shape than in this model."""
    found = _shapes(params)
    if found == expected:
        return
    found, wanted = (
        {keystr(path): leaf for path, leaf in tree_leaves_with_path(tree, is_leaf=_is_shape)}
        for tree in (found, expected)
    )
    name = next(name for name in (*wanted, *found) if found.get(name) != wanted.get(name))
    raise ValueError(
        f"params{name} must be {wanted.get(name, 'left out')} in this model, got "
        f"{found.get(name, 'no array')}: these are the parameters of another model"
    )


def _shapes(params: Params) -> Any:
    return jax.tree.map(lambda leaf: leaf.shape, params, is_leaf=is_low_rank)


def _check_length(config: TransformerConfig, length: int) -> None:
    """ValueError for more slots than the model has positions: later tokens would be NaN."""
    if config.position_limit is not None and length > config.position_limit:
        raise ValueError(
            f"{length} columns of prompt and answer are more than the {config.position_limit} "
            "positions of this model: shorten the prompts or generate fewer tokens"
        )


def _is_shape(tree: Any) -> bool:
    return isinstance(tree, tuple)


def for_decoding(
    config: TransformerConfig, mesh: Mesh | None, params: Params, axes: dict[str, Any]
) -> Params:
    """Parameters as decoding reads them on a mesh: split over "model" alone, in the compute dtype.

    Norms and routers, which are read in float32, keep their dtype.
    """
    if mesh is None:
        return params

    def whole(path: tuple, w: Array, names: tuple[str, ...]) -> Array:
        wide = any("norm" in str(key) or "router" in str(key) for key in path)
        w = w if wide else w.astype(config.dtype)
        return constrain(w, mesh, *(None if name == "embed" else name for name in names))

    return jax.tree_util.tree_map_with_path(whole, params, axes)


def make_router_loss(
    config: TransformerConfig, bind: Callable[[Params], Any]
) -> Callable[..., Float[Array, ""]]:
    """The router loss of anything with a trunk; see `Transformer`."""

    def router_loss(params, ids, positions, segments):
        if config.moe is None:
            raise ValueError("a model without experts (moe=None) has no router loss")
        return jnp.mean(bind(params).trunk(ids, positions, segments)[2])

    return router_loss


def make_transformer(config: TransformerConfig, mesh: Mesh | None = None) -> Transformer:
    """A language model of this size as pure functions; see `Transformer` for each.

    mesh: where rows and tokens are split as `sharding.RULES` says; the functions must then be
      compiled, and the numbers stay the same. None: the compiler decides.
    """
    init, bind, axes = plain(lambda key: LanguageModel(config, nnx.Rngs(params=key), mesh))

    def hidden(params, ids, positions, segments):
        return bind(params).trunk(ids, positions, segments)[0]

    def unembed(params, hidden):
        return bind(params).logits(hidden)

    def table(params):
        return bind(params).table()

    def prefill(params, ids, positions, segments, length):
        _check_length(config, length)
        states, (keys, values), _ = bind(params).trunk(ids, positions, segments, keep=True)
        if config.sliding_window is not None and all(config.local_layers):
            length = min(length, config.sliding_window)
        return states, filled_cache(keys, values, jnp.where(segments > 0, positions, -1), length)

    def unstack(params):
        named, layers = axes(), params["trunk"]["layers"]
        stack = named["trunk"].pop("layers")
        inner = jax.tree.map(lambda names: names[1:], stack, is_leaf=_is_shape)
        # Whole over "fsdp" before the loop over tokens, which would gather them for each one.
        read = partial(for_decoding, config, mesh)

        def layer(i):
            return read(summed(jax.tree.map(lambda w: w[i], layers)), inner)

        trunk = {name: part for name, part in params["trunk"].items() if name != "layers"}
        rest = read(summed({**params, "trunk": trunk}), named)
        whole = {**rest, "trunk": {**rest["trunk"], "layers": layers}}
        return Unstacked(whole, tuple(layer(i) for i in range(config.num_layers)))

    def decode_step(unstacked, cache, ids, positions):
        params, layers = unstacked
        return bind(params).trunk.step(layers, cache, ids, positions)

    return Transformer(
        config,
        init,
        hidden,
        unembed,
        table,
        prefill,
        unstack,
        decode_step,
        axes,
        make_router_loss(config, bind),
        mesh,
    )
