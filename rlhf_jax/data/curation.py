"""Pairs kept, swapped or dropped by two reward models and a judge, on arrays of the host.

    masks = consistency_filter(gold_confidences, confidences, verdicts)
    pairs = curated_pairs(pool, masks)          # records, the flipped ones swapped

The gold model g is fitted to pairs that people have verified, the best model b is the latest one;
`recipes.curate` asks models and judges for the arrays. Everything after that is Bradley-Terry.

Shared arguments and results:
  gold_confidences, confidences: [N] p = sigmoid(s_w - s_l) of g and b, in [0, 1]; above 1/2 the
    model agrees with the label, below 1/2 it disagrees, at 1/2 it does neither.
  verdicts: [N] a judge's P(the label is right); NaN without a verdict, which agrees with nothing.
  keys: embeddings, one row each; of a pair, of the prompt and of what a judge says it is about.
Reference: Liu et al. 2025, arXiv:2507.01352 (Skywork-Reward-V2), Sections 3.2 and 3.3.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.data.records import Pair


class Curation(NamedTuple):
    """What becomes of N pairs; a pair is kept, flipped or discarded.

    keep, flip: [N] used as labelled, and with chosen and rejected swapped.
    relabel: [N] the judge's verdict was needed to decide.
    unjudged: [N] of these, there was no verdict.
    """

    keep: Bool[np.ndarray, " N"]
    flip: Bool[np.ndarray, " N"]
    relabel: Bool[np.ndarray, " N"]
    unjudged: Bool[np.ndarray, " N"]

    @property
    def discard(self) -> Bool[np.ndarray, " N"]:
        """[N] not used."""
        return ~(self.keep | self.flip)

    @property
    def signs(self) -> Int[np.ndarray, " N"]:
        """[N] 1 for kept, -1 for flipped, 0 for discarded pairs."""
        return self.keep.astype(int) - self.flip.astype(int)

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs are in each mask; keep, flip and discard add up to N."""
        names = ("keep", "flip", "discard", "relabel", "unjudged")
        return {name: int(getattr(self, name).sum()) for name in names}


def pair_confidences(
    chosen_scores: ArrayLike, rejected_scores: ArrayLike
) -> Float[np.ndarray, " N"]:
    """p = sigmoid(s_w - s_l): how sure a reward model is of a label.

    Raises:
      ValueError: a score is not finite, or shapes differ.
    """
    chosen, rejected = (np.asarray(x, np.float64) for x in (chosen_scores, rejected_scores))
    if chosen.shape != rejected.shape:
        raise ValueError(f"scores must be paired, got {chosen.shape} and {rejected.shape}")
    check_entries("(-inf, inf)", chosen_scores=chosen, rejected_scores=rejected)
    return scipy.special.expit(chosen - rejected)


def retrieval_counts(confidences: ArrayLike, *, most: int = 8) -> Int[np.ndarray, " N"]:
    """k(p) = k_max if p <= 1/2, else ceil(k_max (1 - p)), at least 1: errors get most neighbours.

    Args:
      most: k_max >= 1.
    Departs: p = 1 in floating point would give k = 0; the paper's p is below 1.
    """
    check_range("[1, inf)", most=most)
    check_entries("[0, 1]", confidences=confidences)
    p = np.asarray(confidences, np.float64)
    graded = np.maximum(np.ceil(most * (1.0 - p)), 1.0)
    return np.where(p <= 0.5, most, graded).astype(int)


def cosine_neighbours(
    keys: ArrayLike,
    pool_keys: ArrayLike,
    counts: ArrayLike,
) -> list[Int[np.ndarray, " k"]]:
    """For each key, its counts[i] pool rows of highest cosine, the most similar first.

    Of equal ones the first in the pool is taken; a count above M gives all M.

    Raises:
      ValueError: a key of length 0 or not finite, dimensions differ, or not one count per key.
    """
    keys, pool_keys = (np.asarray(x, np.float64) for x in (keys, pool_keys))
    if keys.ndim != 2 or pool_keys.ndim != 2 or keys.shape[1] != pool_keys.shape[1]:
        raise ValueError(f"keys must be [N, d] and [M, d], got {keys.shape} and {pool_keys.shape}")
    if np.shape(counts) != keys.shape[:1]:
        raise ValueError(f"counts must be [{len(keys)}], one per key, got {np.shape(counts)}")
    check_entries("[0, inf)", counts=counts)
    units = [_unit_rows(keys, "keys"), _unit_rows(pool_keys, "pool_keys")]
    order = np.argsort(-(units[0] @ units[1].T), axis=1, kind="stable")
    return [row[:count] for row, count in zip(order, np.asarray(counts), strict=True)]


def nested_majority(prefs: ArrayLike) -> Float[np.ndarray, " N"]:
    """Each judge's majority over its samples, then the majority over judges: 1, 0, or NaN at a tie.

    Args:
      prefs: [M, S, N] P(first wins) of M judges with S samples each; NaN and 1/2 are no vote.
    """
    prefs = np.asarray(prefs, np.float64)
    if prefs.ndim != 3:
        raise ValueError(f"prefs must be [judges, samples, N], got {prefs.shape}")
    known = ~np.isnan(prefs)
    check_entries("[0, 1]", prefs=prefs[known])
    votes = np.where(known, np.sign(np.where(known, prefs, 0.5) - 0.5), 0.0)
    majority = np.sign(np.sign(votes.sum(1)).sum(0))
    return np.where(majority == 0, np.nan, (majority + 1) / 2)


def consistency_filter(
    gold_confidences: ArrayLike,
    confidences: ArrayLike,
    verdicts: ArrayLike,
    *,
    flip_discarded: bool = False,
) -> Curation:
    """Keep where g agrees and b or the judge agrees; flip where all three disagree.

    keep = p_g > 1/2 and (p_b > 1/2 or verdict > 1/2);
    flip = p_g < 1/2 and p_b < 1/2 and verdict < 1/2.

    A verdict is needed where p_b <= 1/2 alone. With g = b = judge = oracle it keeps exactly the
    right labels and flips exactly the wrong ones.

    Args:
      flip_discarded: flip all that is not kept, as the paper's experimental larger set does.
    Departs: the narrow flip is not in the paper, which recycles all discarded pairs.
    """
    gold, best, judged = _checked(gold_confidences, confidences, verdicts)
    keep = (gold > 0.5) & ((best > 0.5) | (judged > 0.5))
    flip = ~keep if flip_discarded else (gold < 0.5) & (best < 0.5) & (judged < 0.5)
    relabel = best <= 0.5
    return Curation(keep, flip, relabel, relabel & np.isnan(judged))


def judge_relabel(confidences: ArrayLike, verdicts: ArrayLike) -> Curation:
    """Keep where b agrees with the label; elsewhere the judge labels the pair anew.

    keep = p_b > 1/2 or verdict > 1/2;   flip = p_b <= 1/2 and verdict < 1/2.

    A pair that needs a verdict and has none, or 1/2, is discarded.
    """
    best, judged = _checked(confidences, verdicts)
    relabel = best <= 0.5
    keep, flip = ~relabel | (judged > 0.5), relabel & (judged < 0.5)
    return Curation(keep, flip, relabel, relabel & np.isnan(judged))


def curated_pairs(pool: Sequence[Pair], curation: Curation) -> list[Pair]:
    """The kept pairs and the flipped ones with their answers swapped, in the pool's order.

    A margin of a flipped pair is dropped: it belonged to a label that is not believed.
    """
    if len(pool) != len(curation.keep):
        raise ValueError(f"the masks are of {len(curation.keep)} pairs, the pool has {len(pool)}")
    return [
        pair if sign > 0 else pair._replace(chosen=pair.rejected, rejected=pair.chosen, margin=None)
        for pair, sign in zip(pool, curation.signs, strict=True)
        if sign
    ]


def agreement_precision(right: float, *accuracies: float) -> float:
    """P(label right | independent checks of these accuracies all agree with it).

    q a_1 .. a_m / (q a_1 .. a_m + (1 - q) (1 - a_1) .. (1 - a_m)).

    Of flips, where all disagree: the same with 1 - q in place of q. Checks that share errors have
    a lower one.

    Args:
      right: q, the share of right labels, in [0, 1].
      accuracies: a of each check, in [0, 1]; none gives q.
    Returns:
      NaN if the checks can never agree.
    """
    check_range("[0, 1]", right=right)
    check_entries("[0, 1]", accuracies=accuracies)
    agree = right * np.prod(accuracies)
    total = agree + (1.0 - right) * np.prod(1.0 - np.asarray(accuracies))
    return float(agree / total) if total > 0 else float("nan")


def _checked(*arrays: ArrayLike) -> list[Float[np.ndarray, " N"]]:
    """Confidences, and verdicts last, of one length and in [0, 1]; a verdict may be NaN."""
    checked = [np.asarray(x, np.float64) for x in arrays]
    if {x.ndim for x in checked} != {1} or len({x.shape for x in checked}) > 1:
        shapes = ", ".join(str(x.shape) for x in checked)
        raise ValueError(f"confidences and verdicts must all be [N], got {shapes}")
    for x in checked[:-1]:
        check_entries("[0, 1]", confidences=x)
    check_entries("[0, 1]", verdicts=np.where(np.isnan(checked[-1]), 0.5, checked[-1]))
    return checked


def _unit_rows(keys: Float[np.ndarray, "N d"], name: str) -> Float[np.ndarray, "N d"]:
    """Rows of length 1."""
    lengths = np.linalg.norm(keys, axis=1, keepdims=True)
    if not ((lengths > 0) & np.isfinite(lengths)).all():
        row = int(np.argmin((lengths > 0) & np.isfinite(lengths)))
        raise ValueError(f"{name} must be finite and not all 0, got {keys[row]} in row {row}")
    return keys / lengths
