"""OSP: a language model compares answers, its own among them, and the comparisons are labels.

    judge = verdicts_of(lab)
    reward = self_judged(lab, judge, params)                    # frozen, on the device
    online(stage, lab, task, osp(lab, samples=4, beta=0.1), reward, sft, numbers, fit, key=key)

or on answers that are there, as data:

    prefs = list_prefs(lab, judge, params, rows, batch_size=16)  # rows: "prompt" and "answers"
    pairs, labels = soft_pairs(rows, prefs)
    batches = pair_rows(lab, pairs, batch_size=16, reference=known, columns={"prefs": labels})
    preference(stage, lab, batches, sft, fit, loss=partial(soft_preference_loss, beta=0.1))

Reference: Zhai et al. 2024, arXiv:2405.14103.
"""

from collections.abc import Sequence
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.losses.feedback import verdict_prefs
from rlhf_jax.ops.pairings import Pairing, mean_wins, ranked_pairing, tempered_prefs
from rlhf_jax.recipes.lab import LanguageLab, hold_params
from rlhf_jax.recipes.rewards import Reward, judged_matrix, known_reward, not_on_host
from rlhf_jax.recipes.task import Task
from rlhf_jax.recipes.verdicts import verdict_logps
from rlhf_jax.rewards import ComparePairs
from rlhf_jax.training import UserError
from rlhf_jax.types import Params, Trajectory, VerdictFn


def self_prefs(judge: VerdictFn, params: Params, trajectory: Trajectory) -> Float[Array, "B K K"]:
    """P(row beats column) of the K answers to each prompt, each pair in both orders; no gradient.

    1/2 on the diagonal; prefs + their transpose is 1.
    """
    size = trajectory.mask.shape[1]
    if size < 2:
        raise ValueError(f"comparisons need two or more answers to each prompt, got {size}")
    one, other = np.array(list(combinations(range(size), 2))).T
    sides = (jax.tree.map(lambda x, at=at: x[:, at], trajectory) for at in (one, other))
    found = verdict_prefs(judge.logps(jax.lax.stop_gradient(params), *sides))
    prefs = jnp.full((len(found), size, size), 0.5, found.dtype)
    return prefs.at[:, one, other].set(found).at[:, other, one].set(1.0 - found)


def self_judged(lab: LanguageLab, judge: VerdictFn, params: Params) -> Reward:
    """Comparisons by a frozen judge on the device; the score is the win rate over the others."""
    held = hold_params(lab, params, lab.axes["policy"])

    def prefs(params: Params, _: object, trajectory: Trajectory) -> Float[Array, "B K K"]:
        return self_prefs(judge, params, trajectory)

    def scores(params: Params, _: object, trajectory: Trajectory) -> Float[Array, "B K"]:
        return mean_wins(self_prefs(judge, params, trajectory))

    return Reward(held, not_on_host, scores, prefs=prefs)


def judged_prefs(lab: LanguageLab, task: Task, compare: ComparePairs) -> Reward:
    """Comparisons by any judge on the host; the score is the win rate over the others."""
    return known_reward()._replace(
        host=judged_matrix(lab, task, compare),
        scores=lambda params, given, trajectory: mean_wins(given),
        prefs=lambda params, given, trajectory: given,
    )


def list_prefs(
    lab: LanguageLab,
    judge: VerdictFn,
    params: Params,
    rows: Sequence[dict],
    *,
    batch_size: int,
) -> Float[np.ndarray, "N K K"]:
    """P(row beats column) of the answers of each record, K >= 2 of them.

    Raises:
      UserError: no record, one with fewer than two answers, or with another number than the
        first.
    """
    if not rows:
        raise UserError("comparisons need one record at least, got none")
    size = len(rows[0]["answers"])
    for i, row in enumerate(rows):
        if not len(row["answers"]) == size >= 2:
            raise UserError(
                f"record {i}: comparisons need the same number of answers in each record, at least "
                f"2; got {len(row['answers'])}, and {size} in the first"
            )
    places = list(combinations(range(size), 2))
    pairs = [
        {**row, "first": row["answers"][i], "second": row["answers"][j]}
        for row in rows
        for i, j in places
    ]
    sides = ("first", "second")
    logps = verdict_logps(lab, judge, params, pairs, sides, batch_size=batch_size)
    found = np.asarray(verdict_prefs(jnp.asarray(logps))).reshape(len(rows), len(places))
    prefs = np.full((len(rows), size, size), 0.5)
    for column, (i, j) in enumerate(places):
        prefs[:, i, j], prefs[:, j, i] = found[:, column], 1.0 - found[:, column]
    return prefs


def soft_pairs(
    rows: Sequence[dict],
    prefs: Float[np.ndarray, "N K K"],
    *,
    temperature: float = 1.0,
    pairing: Pairing = "halves",
) -> tuple[list[dict], Float[np.ndarray, " M"]]:
    """Records of pairs by rank, and P(chosen beats rejected) of each; without a verdict left out.

    Args:
      rows: "prompt" and K "answers", K even.
      prefs: of `list_prefs`, or of any judge.
      temperature, pairing: as in `ops.pairings`.
    Raises:
      ValueError: a probability outside [0, 1], an odd K, or prefs of other records.
      UserError: no pair has a verdict.
    """
    if len(prefs) != len(rows):
        raise ValueError(f"prefs must be of {len(rows)} records, got {len(prefs)}")
    found = ranked_pairing(jnp.asarray(prefs, jnp.float32), pairing=pairing)
    labels = np.asarray(tempered_prefs(found.prefs, temperature=temperature), np.float64)
    pairs, kept = [], []
    for row, first, second, each in zip(rows, *found[:2], labels, strict=True):
        for i, j, label in zip(first.tolist(), second.tolist(), each.tolist(), strict=True):
            if np.isnan(label):
                continue
            sides = {"chosen": row["answers"][i], "rejected": row["answers"][j]}
            pairs.append({k: v for k, v in row.items() if k != "answers"} | sides)
            kept.append(label)
    if not pairs:
        raise UserError(f"none of the pairs of {len(rows)} records has a verdict")
    return pairs, np.array(kept)
