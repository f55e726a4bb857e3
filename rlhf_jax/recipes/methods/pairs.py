"""Methods on pairs of fresh answers to a prompt: online DPO with any loss of pairs, and P3O."""

from functools import partial
from typing import Any

import jax.numpy as jnp

from rlhf_jax.algos import preference
from rlhf_jax.algos.online import GroupBatch, make_group_objective
from rlhf_jax.checks import check_range
from rlhf_jax.losses.pairwise_gradient import p3o_v1_loss, p3o_v2_loss
from rlhf_jax.ops.groups import informative_groups, pair_measures
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

    def prepare(params: Params, scored: Scored) -> tuple[Any, dict[str, Any]]:
        trajectory = scored.rollout.trajectory
        ref_logps = logps(scored.ref_token_logps, trajectory.mask)
        given = (trajectory, scored.scores)
        if explore is None:
            pairs = preference.rank_pairs(*given, ref_logps)
        else:
            states = language_embedding(lab.model)(params, trajectory)
            pairs = preference.exploring_pairs(*given, states, ref_logps, ridge=explore)
        return pairs, {"pairs/decided": jnp.asarray(pairs.weights).mean()}

    objective = preference.make_objective(lab.policy, loss, logps=logps, reference=reference)
    return OnlineMethod(
        samples=samples,
        start=same,
        policy=same,
        axes=lab.axes["policy"],
        prepare=prepare,
        objective=objective,
        passes=passes(epochs, minibatches),
    )


def p3o(
    lab: LanguageLab,
    *,
    samples: int = 2,
    clip_eps: float = 0.2,
    weight_clip_eps: float = jnp.inf,
    joint: bool = True,
    beta: float = 0.0,
    epochs: int = 1,
    minibatches: int = 1,
) -> OnlineMethod:
    """P3O: the difference of two answers' scores moves the difference of their log-probs.

    A shift of all scores of a prompt changes nothing. Of more than two answers every pair counts.

    Args:
      samples: answers to each prompt, >= 2.
      joint: clips the ratio of the two ratios (`p3o_v2_loss`), or each by itself (`p3o_v1_loss`).
      weight_clip_eps: of `p3o_v2_loss`; infinity switches it off.
      beta: of the KL penalty that is subtracted from the scores, >= 0.
      epochs, minibatches: as in `answer_method`, but a minibatch is of prompts.
    """
    check_range("[2, inf)", samples=samples)
    check_range("[0, inf)", beta=beta)
    if not joint and jnp.isfinite(weight_clip_eps):
        raise ValueError("weight_clip_eps is of the joint clip: V1 has no such weight")
    loss = partial(p3o_v1_loss, clip_eps=clip_eps)
    if joint:
        loss = partial(p3o_v2_loss, clip_eps=clip_eps, weight_clip_eps=weight_clip_eps)

    def prepare(params: Params, scored: Scored) -> tuple[GroupBatch, dict[str, Any]]:
        trajectory, finite = scored.rollout.trajectory, jnp.isfinite(scored.scores)
        old, ref = (
            sequence_logps(x, trajectory.mask)
            for x in (scored.rollout.token_logps, scored.ref_token_logps)
        )
        scores = jnp.where(finite, scored.scores - scored.beta * (old - ref), jnp.nan)
        weights = (jnp.sum(finite, axis=-1) > 1).astype(jnp.float32)
        batch = GroupBatch(trajectory, {"old_logps": old, "scores": scores}, weights)
        informative = informative_groups(scored.scores)
        return batch, {"groups/informative": informative.mean(), "pairs/scored": weights.mean()}

    measures = partial(pair_measures, clip_eps=clip_eps)
    return OnlineMethod(
        samples=samples,
        start=same,
        policy=same,
        axes=lab.axes["policy"],
        prepare=prepare,
        objective=make_group_objective(lab.policy, loss, measures=measures),
        beta=beta,
        passes=passes(epochs, minibatches),
    )
