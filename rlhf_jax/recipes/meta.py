"""MetaRM: a reward model from pairs, and from unlabelled answers of the policy it will judge.

    rows = meta_rows(lab, pair_rows(lab, records, batch_size=16), answers, batch_size=16)
    params = meta_reward_model(stage, lab, rows, params, fit, eta=0.1)

Answers are records of "prompt" and "answer", K >= 2 to each prompt, as `rlhf sample` writes them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from rlhf_jax.algos import meta_reward as meta_update
from rlhf_jax.algos.meta_reward import MetaBatch
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.recipes.hosts import host_batches
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.offline import Fit, built, fit_rows, step_options
from rlhf_jax.recipes.rows import Records, Rows, answer_batch
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params, Trajectory


@dataclass(frozen=True)
class MetaRows:
    """Batches of pairs and batches of unlabelled answers, step by step."""

    pairs: Rows
    answers: Rows

    def __getitem__(self, step: int) -> MetaBatch:
        return MetaBatch(self.pairs[step], self.answers[step])


def meta_rows(lab: LanguageLab, pairs: Rows, answers: Records, *, batch_size: int) -> MetaRows:
    """The pairs of each step beside the answers to `batch_size` prompts.

    Raises:
      UserError: as `answer_groups`.
    """
    groups = answer_groups(answers)

    def take(part: Sequence[Sequence[dict]]) -> Trajectory:
        flat = answer_batch(lab, [record for group in part for record in group])
        return jax.tree.map(lambda x: x.reshape(len(part), -1, *x.shape[1:]), flat)

    return MetaRows(pairs, host_batches(lab, groups, take, batch_size=batch_size))


def answer_groups(answers: Records) -> list[list[dict]]:
    """Records with the same prompt, in the order of the first one.

    Raises:
      UserError: prompts with different numbers of answers, or with a single answer.
    """
    groups: dict[str, list[dict]] = {}
    for record in answers:
        groups.setdefault(json.dumps(record["prompt"]), []).append(record)
    sizes = {len(group) for group in groups.values()}
    if len(sizes) != 1 or min(sizes) < 2:
        raise UserError(
            "each prompt needs the same number of unlabelled answers, at least two; found prompts "
            "with " + (", ".join(map(str, sorted(sizes))) or "none")
        )
    return list(groups.values())


def meta_reward_model(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    eta: float,
    loss: Any = bradley_terry_loss,
) -> Params:
    """A score per answer, by the first-order step of MetaRM.

    Args:
      rows: of `meta_rows`. eta, loss: as in `algos.meta_reward.make_update`.
    """
    options = {"eta": eta, "loss": loss} | step_options(lab, fit, "reward")
    update = built(meta_update.make_update, lab.reward, fit.optimizer, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="reward")
