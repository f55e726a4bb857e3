"""A weight that is kept as a frozen matrix and a low-rank change, and summed where it is read.

    W + s A B,   and with magnitudes m (DoRA)   m_j (W + s A B)_j / |(W + s A B)_j|   for column j.

A transformer sums up the weights of one layer at a time, inside its scan. With `remat` at most one
layer's sum is in memory, and its gradient becomes that of A and B before the next layer's is made.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Params = Any  # tree of arrays


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["base", "a", "b", "magnitude"],
    meta_fields=["scale"],
)
@dataclass(frozen=True)
class LowRank:
    """One weight, with any number of axes of each kind: stack (layers, experts), inputs, outputs.

    base: W [*stack, *inputs, *outputs]. a: [*stack, *inputs, r]. b: [*stack, r, *outputs].
    magnitude: m [*stack, *outputs], or None. scale: s.
    """

    base: Any
    a: Any
    b: Any
    magnitude: Any
    scale: float = field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""
        return jnp.shape(self.base)

    def summed(self) -> jax.Array:
        """The weight, computed in float32 and rounded once to the dtype of `base`."""
        a, b = self._matrices()
        base = self.base.astype(jnp.promote_types(self.base.dtype, jnp.float32))
        base = base.reshape(*a.shape[:-1], b.shape[-1])
        weight = base + self.scale * jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        if self.magnitude is not None:
            weight = weight * self._stretch(weight)
        return weight.reshape(self.shape).astype(self.base.dtype)

    def _matrices(self) -> tuple[jax.Array, jax.Array]:
        """A [*stack, n, r] and B [*stack, r, m]."""
        # From the ranks of the arrays alone: a scan over layers takes away the first stacked axis.
        stack = self.base.shape[: self.a.ndim + self.b.ndim - 2 - self.base.ndim]
        rank = self.a.shape[-1]
        return self.a.reshape(*stack, -1, rank), self.b.reshape(*stack, rank, -1)

    def _stretch(self, weight: jax.Array) -> jax.Array:
        """m / |column|, [*stack, 1, m]; 1 for a column of zeros. The norm has no gradient."""
        norm = jax.lax.stop_gradient(jnp.linalg.norm(weight, axis=-2, keepdims=True))
        magnitude = self.magnitude.reshape(norm.shape)
        # A new model has layers of zeros, and 0 / 0 would be NaN.
        return jnp.where(norm > 0, magnitude / jnp.where(norm > 0, norm, 1.0), 1.0)


def is_low_rank(leaf: Any) -> bool:
    """Whether a leaf of the params is a `LowRank`; the `is_leaf` of trees with them."""
    return isinstance(leaf, LowRank)


def summed(params: Params, *, where: Callable[[tuple], bool] = lambda path: True) -> Params:
    """Params of arrays: each `LowRank` of the tree, if its path is one of those, summed up."""

    def array(path: tuple, leaf: Any) -> Any:
        return leaf.summed() if is_low_rank(leaf) and where(path) else leaf

    return jax.tree_util.tree_map_with_path(array, params, is_leaf=is_low_rank)
