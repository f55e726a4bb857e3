"""Acting in bandits and contextual bandits: the inputs do not depend on the actions."""

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
    """One action per step from the softmax of the policy; all steps count.

    Step t of a row is drawn with fold_in(fold_in(fold_in(key, prompt), sample), t), as in
    `sampling.decode`. A bandit has T = 1.

    Args:
      inputs: inputs of the policy, which give logits [*B, T, A].
      key: typed key of this sampling step.
      prompt_indices, sample_indices: [*B] int, the two counters of each row.
    Returns:
      The trajectory, and token_logps [*B, T] of its actions, float32 nats.
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
