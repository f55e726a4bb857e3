"""Counter-based randomness: a draw depends on its prompt and sample index, not on the batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


def row_keys(
    key: Key[Array, ""], prompt_indices: Int[Array, "*B"], sample_indices: Int[Array, "*B"]
) -> Key[Array, "*B"]:
    """One key per row: fold_in(fold_in(key, prompt), sample).

    Args:
      key: key of this sampling step, e.g. `jax.random.fold_in(run_key, step)`.
      prompt_indices: [*B] index of the prompt in its data set.
      sample_indices: [*B] 0, 1, ... for several answers to one prompt.
    """

    def one(prompt, sample):
        return jax.random.fold_in(jax.random.fold_in(key, prompt), sample)

    keys = jax.vmap(one)(prompt_indices.reshape(-1), sample_indices.reshape(-1))
    return keys.reshape(prompt_indices.shape)


def likeliest(logits: Float[Array, "*B A"]) -> Int[Array, "*B"]:
    """jnp.argmax over the last axis: the first of the largest, or the first NaN.

    As two passes, since XLA on CPU does not vectorise a reduction of pairs.
    """
    best = jnp.max(logits, axis=-1, keepdims=True)
    indices = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    here = (logits == best) | jnp.isnan(logits)
    return jnp.min(jnp.where(here, indices, logits.shape[-1]), axis=-1)


def draw_actions(
    keys: Key[Array, "B"], step: Int[Array, "*#B"] | int, logits: Float[Array, "B A"]
) -> Int[Array, "B"]:
    """One action per row from softmax(logits), by the Gumbel-max trick with fold_in(key, step).

    Args:
      keys: [B] from `row_keys`.
      step: index t of the action within its row; one for all rows, or one each.
      logits: [B, A] float32; -inf excludes an action.
    """

    def noise(key, step):
        return jax.random.gumbel(jax.random.fold_in(key, step), logits.shape[-1:], jnp.float32)

    return likeliest(logits + jax.vmap(noise)(keys, jnp.broadcast_to(step, keys.shape)))
