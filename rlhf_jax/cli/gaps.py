"""Gap reward models: how much better is an answer than a reference answer?

Their folder is that of a reward model with a file GAPS beside it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlhf_jax.cli.corrections import check_positions
from rlhf_jax.cli.data import dialogue_numbers
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.layout import batch_rows, bucketing, narrowed
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.options import Padding
from rlhf_jax.cli.reward_lab import reward_lab
from rlhf_jax.cli.reward_measures import beside_rivals, grouped_mean, pair_quality
from rlhf_jax.cli.session import Start
from rlhf_jax.hf import load_reward
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.recipes import LanguageLab, gap_model, gap_scores, gap_zero, pair_gap_table, pair_rows
from rlhf_jax.recipes.buckets import by_length
from rlhf_jax.recipes.rows import Records
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params, TextReward

GAPS = "gap_reward.json"  # {"zero": mean gap of an answer of the training to itself}
GAP = "gap"  # gap:FOLDER


class GapModel(NamedTuple):
    """A lab that reads texts for it, its params, and the gap of no change, which is worth 0."""

    lab: LanguageLab
    params: Params
    zero: float


def gap_training(opened: Opened, start: Start, padding: Padding, *, batch_size: int) -> Training:
    """A gap model from pairs.

    Raises:
      UserError: a prompt with two answers has more tokens than the model has positions.
    """
    lab, records, held = start.lab, opened.records, opened.held
    check_positions(opened.base.config, lab)
    layout = bucketing(lab, records, padding, batch_size=batch_size)

    def table(params: Params, rows: Records) -> np.ndarray:
        return gap_table(lab, params, rows, batch_size=batch_size)

    def quality(params: Params) -> Numbers:
        return gap_quality(table(params, held), held) if held else {}

    def compare(params: Params) -> dict[str, Any]:
        if not held:
            return {}
        return beside_rivals(lab, records, held, gap_margins(table(params, held)))

    def zero(params: Params) -> Mapping[str, bytes]:
        found = gap_zero(table(params, records))
        return {GAPS: (json.dumps({"zero": found}) + "\n").encode()}

    return Training(
        lab=lab,
        first=start.params,
        recipe=gap_model,
        rows=lambda _: pair_rows(lab, records, batch_size=batch_size, **layout),
        quality=quality,
        compare=compare,
        export=start.merge,
        trained_files=zero,
    )


def gap_table(lab: LanguageLab, params: Params, records: Records, *, batch_size: int) -> np.ndarray:
    """[N, 2, 2] gaps of both answers of each pair over both, float64."""

    def work(narrow: LanguageLab, part: Sequence[dict]) -> np.ndarray:
        return pair_gap_table(narrow, params, part, batch_size=batch_size)

    return by_length(work, lab, records, batch_size=batch_size).astype(float)


def gap_margins(gaps: np.ndarray) -> np.ndarray:
    """[N] log-odds that the chosen answer is better: (g_wl - g_lw) / 2, as both say it."""
    return 0.5 * (gaps[:, 0, 1] - gaps[:, 1, 0])


def gap_quality(gaps: np.ndarray, records: Records) -> Numbers:
    """Accuracy and calibration of the gaps of both answers over each other, and of their order."""
    (same, better), (worse, other) = gaps[:, 0].T, gaps[:, 1].T
    ordered = (better > np.maximum(same, other)) & (np.minimum(same, other) > worse)
    numbers = pair_quality(gap_margins(gaps), records)
    numbers["all gaps in order"] = grouped_mean(ordered.astype(float), dialogue_numbers(records))
    numbers["gap of no change"] = gap_zero(gaps)
    return numbers


def has_gaps(folder: Path) -> bool:
    """Whether this is the folder of a gap model."""
    return (folder / GAPS).is_file()


def open_gaps(folder: Path) -> GapModel:
    """A folder of a gap model.

    Raises:
      UserError: the folder has none, or a damaged file.
    """
    if not has_gaps(folder):
        raise UserError(
            f"{folder} has no file {GAPS}: it is not a gap model, which "
            "rlhf reward --kind gap makes"
        )
    try:
        zero = float(read_object(folder / GAPS)["zero"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / GAPS} cannot be read: {error}") from error
    with reading_input():
        found = load_reward(folder)
    return GapModel(reward_lab(folder, found, 0), found.params, zero)


def gap_reward(found: GapModel) -> TextReward:
    """How much better an answer is than the column "reference" of its prompt; copying it is 0."""

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        # As of a reward model: an empty answer has no token, and a space is as near as texts come.
        sides = zip(prompts, columns["reference"], answers, strict=True)
        rows = [{"prompt": x, "reference": r or " ", "answer": y or " "} for x, r, y in sides]
        narrow, size = narrowed(found.lab, rows), batch_rows(rows)
        return (gap_scores(narrow, found.params, rows, batch_size=size) - found.zero).tolist()

    return score
