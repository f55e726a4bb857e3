"""Direct preference optimisation with any pairwise loss: DPO, IPO and their kin."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.gradient import Diagnostics, gradient_step
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.masking import keep_weighted, weighted_mean
from rlhf_jax.types import Params, Policy, PreferenceBatch, TrainState, Trajectory


def trajectory_logps(policy: Policy, params: Params, trajectory: Trajectory) -> Float[Array, "*B"]:
    """log pi(y | x) of each trajectory: the masked sum of its token log-probs, in nats."""
    token_logps = policy.logps(params, trajectory.inputs, trajectory.actions)
    return sequence_logps(token_logps, trajectory.mask)


def attach_reference(policy: Policy, ref_params: Params, batch: PreferenceBatch) -> PreferenceBatch:
    """The batch with its reference log-probs filled in, once, so that no loss runs a reference."""
    return replace(
        batch,
        ref_chosen_logps=trajectory_logps(policy, ref_params, batch.chosen),
        ref_rejected_logps=trajectory_logps(policy, ref_params, batch.rejected),
    )


def rank_pairs(trajectory: Trajectory, scores: Float[Array, "B 2"]) -> PreferenceBatch:
    """Pairs from two answers to each prompt: the one with the higher score is chosen.

    Args:
      trajectory: leading axes [B, 2].
      scores: [B, 2] by a reward model or judge; at a tie the first answer is chosen.
    Returns:
      PreferenceBatch with leading axis [B], without reference log-probs.
    """
    best = jnp.argmax(scores, axis=1)
    rows = jnp.arange(scores.shape[0])
    return PreferenceBatch(
        chosen=jax.tree.map(lambda x: x[rows, best], trajectory),
        rejected=jax.tree.map(lambda x: x[rows, 1 - best], trajectory),
    )


def make_update(
    policy: Policy, optimizer: optax.GradientTransformation, loss: Callable[..., Array]
) -> Callable[[TrainState, PreferenceBatch], tuple[TrainState, Diagnostics]]:
    """Update on a pairwise loss, averaged over the pairs with the batch's weights.

    Args:
      policy: any parametrisation.
      optimizer: optax.
      loss: `(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps) -> [*B]`, e.g.
        `partial(dpo_loss, beta=0.1)`; beta may be traced.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`; the batch carries its reference log-probs
      (`attach_reference`). Metrics: "loss", "grad_norm", "rewards/accuracy" (ties count one half),
      "rewards/margin" (chosen minus rejected log-ratio, nats), "logps/chosen", "logps/rejected".
      It raises ValueError, at trace time, for a batch without reference log-probs.
    """

    def update(state: TrainState, batch: PreferenceBatch) -> tuple[TrainState, Diagnostics]:
        if batch.ref_chosen_logps is None or batch.ref_rejected_logps is None:
            raise ValueError(
                "the batch has no reference log-probs: fill them in with "
                "preference.attach_reference(policy, ref_params, batch)"
            )
        ref_chosen = keep_weighted(batch.ref_chosen_logps, batch.weights)
        ref_rejected = keep_weighted(batch.ref_rejected_logps, batch.weights)

        def objective(params):
            chosen = keep_weighted(trajectory_logps(policy, params, batch.chosen), batch.weights)
            rejected = keep_weighted(
                trajectory_logps(policy, params, batch.rejected), batch.weights
            )
            losses = loss(chosen, rejected, ref_chosen, ref_rejected)
            margins = (chosen - ref_chosen) - (rejected - ref_rejected)
            diagnostics = {
                "rewards/accuracy": weighted_mean(0.5 + 0.5 * jnp.sign(margins), batch.weights),
                "rewards/margin": weighted_mean(margins, batch.weights),
                "logps/chosen": weighted_mean(chosen, batch.weights),
                "logps/rejected": weighted_mean(rejected, batch.weights),
            }
            return weighted_mean(losses, batch.weights), diagnostics

        return gradient_step(state, objective, optimizer)

    return update
