"""Scalar heads on the trunk of a language model, for values, rewards and pairwise preferences.

    params = {"trunk": {...}, "head": {"weight", "bias"}}

The trunk has the same leaves as that of the language model, so a reward model can start from a
tuned policy: `{**reward_params, "trunk": policy_params["trunk"]}`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float

from rlhf_jax.models.config import TransformerConfig
from rlhf_jax.models.layers import weight
from rlhf_jax.models.transformer import Trunk, make_router_loss, plain

Params = Any  # nested dict of arrays


class ScalarModel(NamedTuple):
    """A trunk with one linear head, as pure functions.

    init: `key -> params`.
    scalars: `(params, ids, positions, segments) -> [B, L]` float32, one number per token.
    axes: `() -> ` a dict like params with a tuple of logical axis names per array.
    router_loss: as of a `Transformer`.
    """

    config: TransformerConfig
    init: Callable[..., Params]
    scalars: Callable[..., Float[Array, "B L"]]
    axes: Callable[[], dict]
    router_loss: Callable[..., Float[Array, ""]]


class ScalarParts(NamedTuple):
    """The same model cut before its head, for losses that read features.

    init: `key -> params`, those of the scalar model.
    hidden: `(params, ids, positions, segments) -> [B, L, d]`, what the head reads.
    head: `(params, hidden [*B, d]) -> [*B]` float32.
    """

    init: Callable[..., Params]
    hidden: Callable[..., Float[Array, "B L d"]]
    head: Callable[..., Float[Array, "*B"]]


class Head(nnx.Module):
    """hidden . weight + bias, in float32."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, std: float):
        self.weight = weight(rngs, config, {"embed": config.d_model}, std)
        self.bias = weight(rngs, config, {}, 0.0)

    def __call__(self, hidden: Float[Array, "*B d"]) -> Float[Array, "*B"]:
        return hidden.astype(jnp.float32) @ self.weight[...].astype(jnp.float32) + self.bias[...]


class ScalarTransformer(nnx.Module):
    """Trunk and head."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, mesh: Mesh | None, std: float):
        self.trunk = Trunk(config, rngs, mesh)
        self.head = Head(config, rngs, std)


def make_scalar_model(
    config: TransformerConfig, *, head_std: float, mesh: Mesh | None = None
) -> ScalarModel:
    """A scalar model; its head starts normal with standard deviation `head_std` (0: all zeros).

    mesh: as of `make_transformer`.
    """

    def build(key: jax.Array) -> ScalarTransformer:
        return ScalarTransformer(config, nnx.Rngs(params=key), mesh, head_std)

    init, bind, axes = plain(build)

    def scalars(params, ids, positions, segments):
        model = bind(params)
        return model.head(model.trunk(ids, positions, segments)[0])

    return ScalarModel(config, init, scalars, axes, make_router_loss(config, bind))


def make_value_model(config: TransformerConfig, mesh: Mesh | None = None) -> ScalarModel:
    """A critic. All values start at 0, so the first advantages are the plain returns."""
    return make_scalar_model(config, head_std=0.0, mesh=mesh)


def make_reward_model(config: TransformerConfig, mesh: Mesh | None = None) -> ScalarModel:
    """A reward model with head deviation 1 / (d + 1): scores start near 0 but differ."""
    return make_scalar_model(config, head_std=1.0 / (config.d_model + 1), mesh=mesh)


def make_reward_parts(config: TransformerConfig, mesh: Mesh | None = None) -> ScalarParts:
    """`make_reward_model` in two parts, with the same params."""

    def build(key: jax.Array) -> ScalarTransformer:
        return ScalarTransformer(config, nnx.Rngs(params=key), mesh, 1.0 / (config.d_model + 1))

    init, bind, _ = plain(build)

    def hidden(params, ids, positions, segments):
        return bind(params).trunk(ids, positions, segments)[0]

    def head(params, hidden):
        return bind(params).head(hidden)

    return ScalarParts(init, hidden, head)
