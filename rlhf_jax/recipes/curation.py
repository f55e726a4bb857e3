"""Curation of pairs of texts by two reward models of a lab and by judges.

gold, best = (partial(lab_confidences, lab, params) for params in (gold_params, best_params))
found = curate(pool, gold, best, [compare])
records = [pair._asdict() for pair in curated_pairs(pool, found)]    # for `pair_rows`
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from rlhf_jax.checks import check_range
from rlhf_jax.data.curation import (
    Curation,
    consistency_filter,
    judge_relabel,
    nested_majority,
    pair_confidences,
)
from rlhf_jax.data.records import Pair
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.offline import pair_scores
from rlhf_jax.recipes.rewards import pair_prefs
from rlhf_jax.rewards import ComparePairs
from rlhf_jax.types import Params


@runtime_checkable
class PairConfidence(Protocol):
    """How sure a reward model is of each label, e.g. `partial(lab_confidences, lab, params)`."""

    def __call__(self, pairs: Sequence[Pair], /) -> Float[np.ndarray, " N"]:
        """[N] sigmoid(s_w - s_l)."""
        ...


def lab_confidences(
    lab: LanguageLab, params: Params, pairs: Sequence[Pair], *, batch_size: int = 64
) -> Float[np.ndarray, " N"]:
    """[N] sigmoid(s_w - s_l) under a reward model of the lab."""
    records = [pair._asdict() for pair in pairs]
    scores = pair_scores(lab, params, records, batch_size=batch_size)
    return pair_confidences(scores[:, 0], scores[:, 1])


def judge_labels(
    pairs: Sequence[Pair], judges: Sequence[ComparePairs], *, samples: int = 1, seed: int = 0
) -> Float[np.ndarray, " N"]:
    """[N] 1 if the judges confirm the label, 0 if they reverse it, NaN without a majority.

    Each judge sees each pair `samples` times, its answers in random order; see `nested_majority`.

    Raises:
      UserError: a judge failed or returned anything other than probabilities and None.
    """
    check_range("[1, inf)", samples=samples)
    if not judges:
        raise ValueError("judge_labels needs at least one judge")
    if not pairs:
        return np.zeros(0)
    draws = np.random.default_rng(seed)
    prefs = [[_shuffled_prefs(judge, pairs, draws) for _ in range(samples)] for judge in judges]
    return nested_majority(np.array(prefs))


def curate(
    pool: Sequence[Pair],
    gold: PairConfidence,
    best: PairConfidence,
    judges: Sequence[ComparePairs],
    *,
    flip_discarded: bool = False,
    samples: int = 1,
    seed: int = 0,
) -> Curation:
    """`consistency_filter` of a pool; judges are asked only where the verdict can matter.

    That is where p_b <= 1/2; and, with `flip_discarded`, where p_g > 1/2 as well.

    Args:
      gold: the model fitted to verified pairs. best: the latest model.
      flip_discarded: as in `consistency_filter`.
      samples, seed: as in `judge_labels`.
    Reference: Liu et al. 2025, arXiv:2507.01352 (Skywork-Reward-V2), Section 3.3.
    """
    gold_confidences, confidences = gold(pool), best(pool)
    asked = confidences <= 0.5
    if flip_discarded:
        asked &= gold_confidences > 0.5
    verdicts = _asked_labels(pool, asked, judges, samples=samples, seed=seed)
    found = consistency_filter(
        gold_confidences, confidences, verdicts, flip_discarded=flip_discarded
    )
    return found._replace(relabel=asked, unjudged=asked & np.isnan(verdicts))


def relabel_doubted(
    pool: Sequence[Pair],
    best: PairConfidence,
    judges: Sequence[ComparePairs],
    *,
    samples: int = 1,
    seed: int = 0,
) -> Curation:
    """`judge_relabel` of a pool; judges are asked where p_b <= 1/2.

    Args:
      best, samples, seed: as in `curate`.
    Reference: Liu et al. 2025, arXiv:2507.01352 (Skywork-Reward-V2), Section 3.3.
    """
    confidences = best(pool)
    verdicts = _asked_labels(pool, confidences <= 0.5, judges, samples=samples, seed=seed)
    return judge_relabel(confidences, verdicts)


def _asked_labels(
    pool: Sequence[Pair],
    asked: Bool[np.ndarray, " N"],
    judges: Sequence[ComparePairs],
    *,
    samples: int,
    seed: int,
) -> Float[np.ndarray, " N"]:
    """`judge_labels` of the pairs that are asked about; NaN for the others."""
    verdicts = np.full(len(pool), np.nan)
    pairs = [pool[i] for i in np.flatnonzero(asked)]
    verdicts[asked] = judge_labels(pairs, judges, samples=samples, seed=seed)
    return verdicts


def _shuffled_prefs(
    judge: ComparePairs, pairs: Sequence[Pair], draws: np.random.Generator
) -> Float[np.ndarray, " N"]:
    """[N] P(chosen beats rejected), each pair shown in a random order."""
    swapped = draws.integers(2, size=len(pairs)).astype(bool)
    first = [x.rejected if swap else x.chosen for x, swap in zip(pairs, swapped, strict=True)]
    second = [x.chosen if swap else x.rejected for x, swap in zip(pairs, swapped, strict=True)]
    prefs = pair_prefs(judge, [pair.prompt for pair in pairs], first, second)
    return np.where(swapped, 1.0 - prefs, prefs)
