"""Recipes on ranked answers of any number: PRO and every other loss of ranked lists.

    records = ranked_records(records)                     # sorted, of one length with a mask
    rows = ranking_rows(lab, records, batch_size=16, scale=score_range(records))
    params = ranking(stage, lab, rows, sft, fit, loss=pro_loss, sft_weight=0.05)

Records are {"prompt", "answers", "scores"}: K texts, or lists of messages, and K numbers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos import ranking as ranking_update
from rlhf_jax.checks import check_range
from rlhf_jax.ops.logprobs import mean_logps, sequence_logps
from rlhf_jax.recipes.hosts import host_batches
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.offline import Fit, built, fit_rows, reference_logps, step_options
from rlhf_jax.recipes.rows import Records, Rows, answer_batch
from rlhf_jax.recipes.tokens import flat_answers
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import AnswerLogps, Params, RankingLoss


class ScoreRange(NamedTuple):
    """Scores go through (r - low) / (high - low): PRO's gaps of scores are of order 1."""

    low: float
    high: float


def ranking(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    loss: RankingLoss,
    logps: AnswerLogps = mean_logps,
    reads: tuple[str, ...] = ("scores",),
    sft_weight: float = 0.0,
) -> Params:
    """A loss of ranked lists: PRO, Plackett-Luce, RRHF, LiPO, LIRE.

    Args:
      rows: of `ranking_rows`, with reference log-probs if the loss reads them.
      loss, logps, reads, sft_weight: as in `algos.ranking.make_update`.
    """
    options = {"logps": logps, "reads": reads, "sft_weight": sft_weight} | step_options(lab, fit)
    update = built(ranking_update.make_update, lab.policy, fit.optimizer, loss, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="policy")


def ranked_records(records: Records, *, most: int | None = None) -> list[dict]:
    """The records with their answers best first, all of one length K: "kept" is its mask.

    A shorter list is filled up with its last answer, which then does not count.

    Args:
      most: answers of a record that stay, >= 2: the best, the worst, and others at even ranks
        between; None for all.
    Raises:
      UserError: a record with fewer than two answers, or with scores that are not as many finite
        numbers.
    """
    if most is not None:
        check_range("[2, inf)", most=most)
    rows = [dict(records[i]) for i in range(len(records))]
    for i, row in enumerate(rows):
        _check_ranking(row, i)
    size = max((len(row["answers"]) for row in rows), default=2)
    size = size if most is None else min(size, most)
    found = []
    for row in rows:
        scores, answers = row["scores"], row["answers"]
        order = sorted(range(len(scores)), key=lambda k, scores=scores: -scores[k])
        if len(order) > size:
            order = [order[round(x)] for x in np.linspace(0, len(order) - 1, size)]
        missing = size - len(order)
        places = [*order, *[order[-1]] * missing]
        kept = [True] * len(order) + [False] * missing
        sides = {"answers": [answers[k] for k in places], "scores": [scores[k] for k in places]}
        found.append(row | sides | {"kept": kept})
    return found


def _check_ranking(row: dict, number: int) -> None:
    """UserError unless this is a record of answers and their scores."""
    answers, scores = (row.get(name) or () for name in ("answers", "scores"))
    if len(answers) < 2:
        raise UserError(f"record {number}: a ranking needs two or more answers, got {len(answers)}")
    if len(scores) != len(answers):
        raise UserError(f"record {number}: {len(scores)} scores for {len(answers)} answers")
    for score in scores:
        if not (isinstance(score, int | float | np.number) and math.isfinite(score)):
            raise UserError(f"record {number}: scores must be finite numbers, got {score!r}")


def score_range(records: Records) -> ScoreRange:
    """The lowest and the highest score of all records.

    Raises:
      UserError: all scores are equal.
    """
    scores = [score for i in range(len(records)) for score in records[i]["scores"]]
    if not scores or min(scores) == max(scores):
        raise UserError(f"all {len(scores)} scores of the rankings are equal: nothing is ranked")
    return ScoreRange(min(scores), max(scores))


def tied_answers(records: Records) -> int:
    """How many answers of `ranked_records` have the score of a better one."""
    rows = (records[i] for i in range(len(records)))
    return sum(
        kept and a == b
        for row in rows
        for a, b, kept in zip(row["scores"], row["scores"][1:], row["kept"][1:], strict=False)
    )


def ranking_rows(
    lab: LanguageLab,
    records: Records,
    *,
    batch_size: int,
    scale: ScoreRange | None = None,
    ties: bool = True,
    reference: np.ndarray | None = None,
) -> Rows:
    """Batches of ranked lists [B, K], in an order of the lab's seed.

    Args:
      records: of `ranked_records`.
      scale: maps the scores; None leaves them as they are.
      ties: as in `algos.ranking.rank_lists`.
      reference: [N, K] of `ranking_reference`; None for a loss without one.
    Raises:
      UserError: a reference of other records.
    """
    if reference is not None and len(reference) != len(records):
        raise UserError(f"reference must have {len(records)} lists, got {len(reference)}")
    low, high = (0.0, 1.0) if scale is None else scale

    def take(numbers: Sequence[int]) -> ranking_update.RankingBatch:
        rows = [records[int(i)] for i in numbers]
        shape = (len(rows), len(rows[0]["answers"]))
        answers = jax.tree.map(
            lambda x: x.reshape(*shape, *x.shape[1:]), answer_batch(lab, flat_answers(rows))
        )
        scores = (np.array([row["scores"] for row in rows], np.float64) - low) / (high - low)
        kept = jnp.asarray([row["kept"] for row in rows])
        refs = None if reference is None else jnp.asarray(reference[np.asarray(numbers)])
        lists = jnp.asarray(scores, jnp.float32)
        return ranking_update.rank_lists(answers, lists, kept, refs, ties=ties)

    return host_batches(lab, len(records), take, batch_size=batch_size)


def ranking_reference(
    lab: LanguageLab,
    params: Params,
    records: Records,
    *,
    batch_size: int,
    logps: AnswerLogps = sequence_logps,
) -> np.ndarray:
    """[N, K] log-probs of the answers of `ranked_records` under the reference."""
    rows = [records[i] for i in range(len(records))]
    found = reference_logps(lab, params, flat_answers(rows), batch_size=batch_size, logps=logps)
    return found["answer"].reshape(len(rows), -1)
