"""Methods on pairs of fresh answers to a prompt: online DPO with any loss of pairs, and P3O."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.algos import preference
from rlhf_jax.algos.online import PairBatch, make_pair_objective
from rlhf_jax.checks import check_range
from rlhf_jax.losses.pairwise_gradient import p3o_v1_loss, p3o_v2_loss
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.policies.language import language_embedding
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.methods.answers import passes
from rlhf_jax.recipes.online_method import OnlineMethod, Scored, same
from rlhf_jax.types import AnswerLogps, PairLoss, Params


def online_pairs(
    lab: LanguageLab,
    loss: PairLoss,
    *,
    samples: int = 2,
    logps: AnswerLogps = sequence_logps,
    reference: bool = True,
    explore: float | None = None,
    epochs: int = 1,
    minibatches: int = 1,
) -> OnlineMethod:
    """Any loss of pairs on fresh answers: of each prompt's, the best score against the worst.

    Args:
      samples: answers to each prompt, >= 2.
      explore: ridge of `preference.exploring_pairs` on the policy's last states, which then chooses
        the two in place of their scores. A state's coordinates are near 1, and so should it be.
      loss, logps, reference: as in `algos.preference.make_update`; `dpo_loss` gives online DPO.
      epochs, minibatches: as in `answer_method`.
    """

    check_range("[2, inf)", samples=samples)
    if explore is not None:
        check_range("(0, inf)", explore=explore)
    embedding = language_embedding(lab.model)

    def prepare(params: Params, scored: Scored) -> tuple[Any, dict[str, Any]]:
        trajectory = scored.rollout.trajectory
        ref_logps = logps(scored.ref_token_logps, trajectory.mask)
        given = (trajectory, scored.scores)
        if explore is None:
            pairs = preference.rank_pairs(*given, ref_logps)
        else:
            states = embedding(params, trajectory)
            pairs = preference.exploring_pairs(*given, states, ref_logps, ridge=explore)
        return pairs, {"pairs/decided": jnp.asarray(pairs.weights).mean()}

    objective = preference.make_objective(lab.policy, loss, logps=logps, reference=reference)
    method = _pair_method(lab, prepare, objective, epochs=epochs, minibatches=minibatches)
    return method._replace(samples=samples)


def p3o(
    lab: LanguageLab,
    *,
    clip_eps: float = 0.2,
    joint: bool = True,
    beta: float = 0.0,
    epochs: int = 1,
    minibatches: int = 1,
) -> OnlineMethod:
    """P3O on two answers: the difference of their scores moves the difference of their log-probs.

    Args:
      joint: clips the ratio of the two ratios (`p3o_v2_loss`), or each by itself (`p3o_v1_loss`).
      beta: of the KL penalty that is subtracted from the scores, >= 0.
    """
    surrogate = partial(p3o_v2_loss if joint else p3o_v1_loss, clip_eps=clip_eps)

    def loss(
        first: Float[Array, "B"],
        second: Float[Array, "B"],
        old_logps: Float[Array, "B 2"],
        scores: Float[Array, "B 2"],
    ) -> Float[Array, "B"]:
        return surrogate(jnp.stack([first, second], axis=-1), old_logps, scores)

    def prepare(params: Params, scored: Scored) -> tuple[PairBatch, dict[str, Any]]:
        trajectory = scored.rollout.trajectory
        old, ref = (
            sequence_logps(x, trajectory.mask)
            for x in (scored.rollout.token_logps, scored.ref_token_logps)
        )
        columns = {"old_logps": old, "scores": scored.scores - scored.beta * (old - ref)}
        weights = jnp.isfinite(scored.scores).all(axis=-1).astype(jnp.float32)
        sides = (jax.tree.map(lambda x, k=k: x[:, k], trajectory) for k in (0, 1))
        return PairBatch(*sides, columns, weights), {"pairs/scored": weights.mean()}

    method = _pair_method(
        lab,
        prepare,
        make_pair_objective(lab.policy, loss),
        epochs=epochs,
        minibatches=minibatches,
    )
    return method._replace(beta=beta)


def _pair_method(
    lab: LanguageLab, prepare: Any, objective: Any, *, epochs: int, minibatches: int
) -> OnlineMethod:
    """A method that trains the policy on batches of pairs [B]."""
    return OnlineMethod(
        samples=2,
        start=same,
        policy=same,
        axes=lab.axes["policy"],
        prepare=prepare,
        objective=objective,
        passes=passes(epochs, minibatches),
    )
