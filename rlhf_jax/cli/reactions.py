"""Reward models of reactions: P(a user reacts), from answers with and without a heart.

A reaction is a label without a principle, so the recipe is that of `principles`; the folder is that
of any reward model, and `sigmoid_of:FOLDER` is P.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlhf_jax.cli.data import dialogue_numbers
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.reward_measures import grouped_mean
from rlhf_jax.cli.session import Start
from rlhf_jax.ops.statistics import area_under_curve
from rlhf_jax.recipes import LanguageLab, principle_model, principle_rows
from rlhf_jax.recipes.principles import log_odds
from rlhf_jax.recipes.refusals import quoted
from rlhf_jax.recipes.rows import Records
from rlhf_jax.training import UserError
from rlhf_jax.types import Params


def reaction_training(opened: Opened, start: Start, *, batch_size: int) -> Training:
    """The log-odds of a reaction to an answer, from labelled answers.

    Raises:
      UserError: a label that is neither true nor false, or labels that are all the same.
    """
    records, held = reacted_records(opened.records), reacted_records(opened.held)
    if len({record["label"] for record in records}) < 2:
        raise UserError(
            f"all {len(records)} training rows have the label {records[0]['label']}: P(reaction) "
            "needs answers with and without one"
        )
    return Training(
        lab=start.lab,
        first=start.params,
        recipe=principle_model,
        rows=lambda _: principle_rows(start.lab, records, batch_size=batch_size),
        quality=partial(reaction_quality, start.lab, held, batch_size=batch_size),
        export=start.merge,
    )


def reacted_records(records: Records) -> list[dict]:
    """The records with labels of type bool.

    Raises:
      UserError: a label that is neither true nor false; it quotes the prompt.
    """
    found = [dict(records[number]) for number in range(len(records))]
    for record in found:
        label: Any = record.get("label")
        if not (isinstance(label, bool | int | float | np.bool_) and label in (0, 1)):
            raise UserError(
                f"the record with the prompt {quoted(record['prompt'])}: the label must be true or "
                f"false, whether there was a reaction, got {label!r:.20}"
            )
        record["label"] = bool(label)
    return found


def reaction_quality(
    lab: LanguageLab, records: Sequence[dict], params: Params, *, batch_size: int
) -> Numbers:
    """Area under the ROC curve, log loss, and the mean of P beside the share of reactions."""
    if not records:
        return {}
    scores = log_odds(lab, params, records, batch_size=batch_size)
    labels, groups = np.array([row["label"] for row in records]), dialogue_numbers(records)
    area = area_under_curve(jnp.asarray(scores, jnp.float32), jnp.asarray(labels))
    signed = np.where(labels, scores, -scores)
    return {
        "area under the ROC curve": float(area),
        "log loss": grouped_mean(np.logaddexp(0.0, -signed), groups),
        "mean P": grouped_mean(np.exp(-np.logaddexp(0.0, -scores)), groups),
        "reactions": grouped_mean(labels.astype(float), groups),
    }
