"""OSP: the answers to a prompt are paired by rank, and their strengths are soft labels."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.algos import preference
from rlhf_jax.checks import check_range
from rlhf_jax.losses.preference import soft_preference_loss
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.ops.pairings import (
    Pairing,
    RankedPairs,
    label_entropy,
    ranked_pairing,
    tempered_prefs,
)
from rlhf_jax.ops.selection import answers_at
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.methods.answers import passes
from rlhf_jax.recipes.online_method import OnlineMethod, Scored, flat, same
from rlhf_jax.recipes.self_preference import self_prefs
from rlhf_jax.types import Params, PreferenceBatch, VerdictFn


def osp(
    lab: LanguageLab,
    *,
    samples: int = 4,
    beta: float = 0.1,
    temperature: float = 1.0,
    pairing: Pairing = "halves",
    hard: bool = False,
    judge: VerdictFn | None = None,
    epochs: int = 1,
    minibatches: int = 1,
) -> OnlineMethod:
    """Online self-preferring: soft-label DPO on pairs by rank, from comparisons of K answers.

    The comparisons are those of the reward (`judged_prefs`, `self_judged`), or of the policy that
    is trained, with `judge`. A pair without a verdict has weight 0.

    Args:
      samples: K, even.
      beta: KL weight.
      temperature: of the labels, as in `ops.pairings.tempered_prefs`.
      pairing: as in `ops.pairings.ranked_pairing`.
      hard: labels rounded to 0 and 1, which is online DPO; ties have weight 0.
      judge: from `verdicts_of(lab)`: the policy judges with its current weights.
      epochs, minibatches: as in `answer_method`.
    Reference: Zhai et al. 2024, arXiv:2405.14103.
    Departs: the paper's formulas were not available; pairing and strengths are natural forms.
    """
    check_range("[2, inf)", samples=samples)
    if samples % 2:
        raise ValueError(f"osp pairs all answers to a prompt: samples must be even, got {samples}")

    def prepare(params: Params, scored: Scored) -> tuple[PreferenceBatch, dict[str, Any]]:
        trajectory = scored.rollout.trajectory
        prefs = scored.prefs if judge is None else self_prefs(judge, params, trajectory)
        if prefs is None:
            raise ValueError("osp needs comparisons: a reward by judged_prefs or self_judged")
        pairs = ranked_pairing(prefs, pairing=pairing)
        labels = tempered_prefs(pairs.prefs, temperature=temperature)
        return ranked_pair_batch(scored, pairs._replace(prefs=labels), hard=hard)

    loss = partial(soft_preference_loss, beta=beta)
    return OnlineMethod(
        samples=samples,
        start=same,
        policy=same,
        axes=lab.axes["policy"],
        prepare=prepare,
        objective=preference.make_objective(lab.policy, loss),
        passes=passes(epochs, minibatches),
    )


def ranked_pair_batch(
    scored: Scored, pairs: RankedPairs, *, hard: bool
) -> tuple[PreferenceBatch, dict[str, Any]]:
    """The pairs [B K / 2] with their labels, and numbers of them; weight 0 without a label."""
    trajectory, labels = scored.rollout.trajectory, pairs.prefs
    weights, entropy = jnp.isfinite(labels).astype(jnp.float32), label_entropy(labels)
    if hard:
        weights *= labels != 0.5
        labels = 0.5 + 0.5 * jnp.sign(labels - 0.5)
    ref_logps = sequence_logps(scored.ref_token_logps, trajectory.mask)
    batch = PreferenceBatch(
        chosen=answers_at(trajectory, pairs.first),
        rejected=answers_at(trajectory, pairs.second),
        ref_chosen_logps=answers_at(ref_logps, pairs.first),
        ref_rejected_logps=answers_at(ref_logps, pairs.second),
        weights=weights,
        columns={"prefs": jnp.where(weights > 0, labels, 0.5)},
    )
    longer = length_gaps(trajectory.mask, pairs.first, pairs.second)
    return flat(batch), {
        "pairs/decided": weights.mean(),
        "pairs/strength": weighted_mean(labels, weights),
        "pairs/entropy": weighted_mean(entropy, weights),
        "pairs/longer": weighted_mean(longer, weights),
    }


def length_gaps(mask: Array, first: Array, second: Array) -> Float[Array, "B M"]:
    """Tokens of the first answer of a pair minus those of the second."""
    lengths = jnp.sum(mask, axis=-1, dtype=jnp.float32)
    return answers_at(lengths, first) - answers_at(lengths, second)
