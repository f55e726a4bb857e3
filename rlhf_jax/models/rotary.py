"""Rotary positions: pairs of features of queries and keys turn by an angle, by position.

Frequencies are f_i = theta^(-2i / h), i = 0 .. h/2 - 1, in radians per token. Scaling for longer
documents keeps a share s_i of each and divides the rest by the factor:

    f_i (s_i + (1 - s_i) / factor)

"linear" has s = 0. "llama3" and "yarn" go from s = 1 for pairs that turn often within a document of
pretraining to s = 0 for those that turn less than once. "dynamic" has s = 1, and the angle is NaN
from position `original_max_positions` on. There its usual form takes another theta for each length
of the document: the log-probability of a token would then depend on the tokens after it, and keys
in the cache, turned for a shorter document, would disagree with those of a full forward pass.

References: Chen et al. 2023, arXiv:2306.15595 (linear); Peng et al. 2023, arXiv:2309.00071 (yarn,
dynamic); Llama team 2024, arXiv:2407.21783 (llama3).
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rlhf_jax.models.config import RopeScaling, TransformerConfig

Rotation = tuple[Float[Array, "*B half"], Float[Array, "*B half"]]  # cosines and sines


def rotation(
    positions: Int[Array, "*B"], config: TransformerConfig, *, local: bool = False
) -> Rotation | None:
    """Cosines and sines of position * frequency, in float32; None if positions are learned.

    Args:
      local: for the layers with a sliding window, which may have a theta of their own.
    """
    if config.positions != "rope":
        return None
    own = config.rope_local_theta if local else None
    theta = own or config.rope_theta
    exponents = jnp.arange(config.head_dim // 2, dtype=jnp.float32) * (2.0 / config.head_dim)
    frequencies = theta**-exponents
    scaling = None if own else config.rope_scaling
    if scaling is None:
        angles = positions[..., None].astype(jnp.float32) * frequencies
        return jnp.cos(angles), jnp.sin(angles)
    kept = kept_shares(scaling, theta=theta, head_dim=config.head_dim)
    frequencies *= (kept + (1 - kept) / scaling.factor).astype(np.float32)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    if config.position_limit is not None:
        angles = jnp.where((positions < config.position_limit)[..., None], angles, jnp.nan)
    size = attention_factor(scaling)
    return jnp.cos(angles) * size, jnp.sin(angles) * size


def kept_shares(scaling: RopeScaling, *, theta: float, head_dim: int) -> np.ndarray:
    """s_i of the formula above for each of the head_dim / 2 frequencies, float64."""
    pairs, old = np.arange(head_dim // 2), scaling.original_max_positions
    if scaling.kind == "linear" or old is None:
        return np.zeros(len(pairs))
    if scaling.kind == "dynamic":
        return np.ones(len(pairs))
    turns = old / (2 * math.pi) * theta ** (-2 * pairs / head_dim)
    if scaling.kind == "llama3":
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        return np.clip((turns - low) / (high - low), 0, 1)

    def pair(count: float) -> float:
        """The pair, not an integer, that turns `count` times."""
        return head_dim * math.log(old / (2 * math.pi * count)) / (2 * math.log(theta))

    first, last = pair(scaling.beta_fast), pair(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    return 1 - np.clip((pairs - first) / ((last - first) or 0.001), 0, 1)


def attention_factor(scaling: RopeScaling) -> float:
    """The factor on rotated queries and keys; attention scores have its square."""
    if scaling.kind != "yarn":
        return 1.0
    return scaling.attention_factor or 0.1 * math.log(scaling.factor) + 1.0


def rotate(x: Float[Array, "*B heads h"], turn: Rotation | None) -> Float[Array, "*B heads h"]:
    """Turns features (i, i + h/2) of every head by the angle of the token's position."""
    if turn is None:
        return x
    cos, sin = (part[..., None, :] for part in turn)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
