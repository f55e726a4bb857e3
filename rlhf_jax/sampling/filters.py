"""Temperature, top-k and top-p as changes to logits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.ops.logprobs import tempered
from rlhf_jax.types import Scalar


def top_k_logits(logits: Float[Array, "*B A"], *, k: int) -> Float[Array, "*B A"]:
    """Keeps the k largest logits and sets the rest to -inf.

    Args:
      logits: [*B, A].
      k: static, >= 1; k >= A changes nothing. All actions tied with the k-th are kept.
    """
    check_range("[1, inf)", k=k)
    if k >= logits.shape[-1]:
        return logits
    smallest = jax.lax.top_k(logits, k)[0][..., -1:]
    return jnp.where(logits >= smallest, logits, -jnp.inf)


def top_p_logits(logits: Float[Array, "*B A"], *, p: Scalar) -> Float[Array, "*B A"]:
    """Keeps the smallest set of most probable actions with total probability >= p.

    An action is kept if the actions with higher probability hold less than p in total. So the most
    probable action is always kept, and so are all ties with the last one.

    Args:
      logits: [*B, A]; -inf is allowed.
      p: in (0, 1]. May be traced.
    """
    check_range("(0, 1]", p=p)
    probs = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

    # The threshold is the largest float32 t with mass{probs >= t} >= p. Non-negative floats are
    # ordered like their bits, so 30 halvings of [0.0, 2.0) find it exactly; on CPU a sort of the
    # row takes eight times as long.
    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        threshold = jax.lax.bitcast_convert_type(middle, jnp.float32)
        mass = jnp.sum(jnp.where(probs >= threshold, probs, 0.0), axis=-1, keepdims=True)
        return jnp.where(mass >= p, middle, low), jnp.where(mass >= p, high, middle)

    low = jnp.zeros((*logits.shape[:-1], 1), jnp.int32)
    high = jnp.full_like(low, 1 << 30)  # the bits of 2.0
    low, _ = jax.lax.fori_loop(0, 30, halve, (low, high))
    return jnp.where(probs >= jax.lax.bitcast_convert_type(low, jnp.float32), logits, -jnp.inf)


def processed_logits(
    logits: Float[Array, "*B A"], *, temperature: float, top_k: int, top_p: float
) -> Float[Array, "*B A"]:
    """Logits of the sampling distribution: logits / temperature, then top-k, then top-p.

    Args:
      logits: [*B, A] float32.
      temperature: static, >= 0; 0 keeps only the largest logit (the first one in a tie).
      top_k: static, 0 for no limit.
      top_p: static, in (0, 1]; 1 for no limit.
    Returns:
      [*B, A] unnormalised, -inf for excluded actions. A tiny temperature gives its limit, a uniform
      choice among the largest logits.
    """
    check_range("[0, inf)", temperature=temperature, top_k=top_k)
    check_range("(0, 1]", top_p=top_p)
    if temperature == 0:
        best = jnp.argmax(logits, axis=-1, keepdims=True)
        return jnp.where(jnp.arange(logits.shape[-1]) == best, 0.0, -jnp.inf)
    if temperature != 1:
        logits = tempered(logits, temperature=temperature)
    if top_k > 0:
        logits = top_k_logits(logits, k=top_k)
    if top_p < 1:
        logits = top_p_logits(logits, p=top_p)
    return logits
