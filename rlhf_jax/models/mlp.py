"""A small network for vectors, as pure functions: actors, critics and reward models of control."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Params = Any  # a tuple of {"weight": [n, m], "bias": [m]}


class MLP(NamedTuple):
    """init: `key -> params`; apply: `(params, inputs [*B, n]) -> [*B, m]` float32."""

    init: Callable[..., Params]
    apply: Callable[..., Float[Array, "*B m"]]


def make_mlp(sizes: Sequence[int]) -> MLP:
    """Linear layers with ReLU between them.

    Weights start uniform in [-b, b] with b = 1 / sqrt(inputs of the layer), biases at 0.

    Args:
      sizes: widths from the input to the output, at least two, each >= 1.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two widths >= 1, got {tuple(sizes)}")

    def init(key: Key[Array, ""]) -> Params:
        keys = jax.random.split(key, len(sizes) - 1)
        return tuple(_layer(one, n, m) for one, (n, m) in zip(keys, pairwise(sizes), strict=True))

    def apply(params: Params, inputs: Float[Array, "*B n"]) -> Float[Array, "*B m"]:
        for layer in params[:-1]:
            inputs = jax.nn.relu(inputs @ layer["weight"] + layer["bias"])
        return inputs @ params[-1]["weight"] + params[-1]["bias"]

    return MLP(init, apply)


def _layer(key: Key[Array, ""], inputs: int, outputs: int) -> dict[str, Array]:
    """Weight and bias of one layer."""
    edge = 1 / math.sqrt(inputs)
    weight = jax.random.uniform(key, (inputs, outputs), jnp.float32, -edge, edge)
    return {"weight": weight, "bias": jnp.zeros(outputs, jnp.float32)}
