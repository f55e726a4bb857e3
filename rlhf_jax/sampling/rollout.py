"""Acting with a policy whose inputs do not depend on its actions: bandits, contexts, tables."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.sampling.keys import draw_actions, row_keys
from rlhf_jax.types import Inputs, Params, Policy, Trajectory


def sample_actions(
    policy: Policy,
    params: Params,
    inputs: Inputs,
    key: Key[Array, ""],
    *,
    prompt_indices: Int[Array, "*B"],
    sample_indices: Int[Array, "*B"],
) -> tuple[Trajectory, Float[Array, "*B T"]]:
    """One action per step from the policy's softmax, every step counted.

    Step t of a row is drawn with fold_in(fold_in(fold_in(key, prompt), sample), t), the counters
    of decoding. A bandit is T = 1.

    Args:
      inputs: of the policy, with logits [*B, T, A].
      key: typed key of this sampling step.
      prompt_indices, sample_indices: [*B] int, what each row's draws are counted by.
    Returns:
      The trajectory, and token_logps [*B, T] of its actions, float32 nats.
    Raises:
      ValueError: a step's logits do not have one row per index.
    """
    logits = policy.logits(params, inputs)
    lead, (steps, num_actions) = logits.shape[:-2], logits.shape[-2:]
    if prompt_indices.shape != lead or sample_indices.shape != lead:
        raise ValueError(
            f"indices have shapes {prompt_indices.shape} and {sample_indices.shape}, but the "
            f"policy's logits have leading axes {lead}; give one index per row"
        )
    keys = row_keys(key, prompt_indices, sample_indices).reshape(-1)
    rows = logits.reshape(-1, steps, num_actions)
    draws = jax.vmap(draw_actions, in_axes=(None, 0, 1), out_axes=1)(keys, jnp.arange(steps), rows)
    actions = draws.reshape(*lead, steps)
    mask = jnp.ones(actions.shape, bool)
    return Trajectory(inputs=inputs, actions=actions, mask=mask), token_logps(logits, actions)
