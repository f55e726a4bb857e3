"""Reward models of several ratings: heads on one trunk, from columns of numbers, and their folder.

Their folder is that of a reward model with the files RATINGS and RATING_WEIGHTS beside it.
"""

import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.cli.data import Chat, dialogue_numbers, read_prompts
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.reward_measures import grouped_mean
from rlhf_jax.cli.segments import mean_head
from rlhf_jax.data.fields import BadRow, number_field
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.recipes import LanguageLab, first_heads
from rlhf_jax.recipes.ratings import (
    RatingUnits,
    rating_model,
    rating_rows,
    rating_scores,
    rating_units,
    standard_ratings,
)
from rlhf_jax.sharding import on_host
from rlhf_jax.training import UserError
from rlhf_jax.types import Params

RATINGS = "rating_heads.json"  # names, means and deviations of the ratings
RATING_WEIGHTS = "rating_heads.npz"  # weight [K, d] and bias [K] of the heads, float32
ANSWERS = ("answer", "completion", "response", "output")


def read_ratings(
    path: Path, chat: Chat, scratch: Path | None = None, *, names: Sequence[str]
) -> list[dict]:
    """Records of "prompt", "answer" and "ratings", name -> number, of rows with such columns.

    A blank answer and a row without any of the ratings are dropped, with a note.

    Raises:
      UserError: no names, a row without an answer, or a rating that is no number.
    """
    if not names:
        raise UserError("--kind ratings needs --ratings NAME, the columns that rate an answer")
    # As prompts, which keep all columns, also where the rows would be rankings.
    rows = read_prompts(path, chat, used=(*ANSWERS, *names), format="prompts")
    found = []
    for number, row in enumerate(rows, start=1):
        answer = next((row[name] for name in ANSWERS if name in row), None)
        if not isinstance(answer, str):
            raise UserError(
                f"{path}, row {number}: expected the text of an answer in one of the columns "
                f"{', '.join(ANSWERS)}"
            )
        try:
            ratings = {name: number_field(row, name) for name in names if row.get(name) is not None}
        except BadRow as error:
            raise UserError(f"{path}, row {number}: {error}") from error
        if answer.strip() and ratings:
            found.append({"prompt": row["prompt"], "answer": answer, "ratings": ratings})
    if not found:
        raise UserError(f"{path}: no row has a rating of {', '.join(names)}")
    if dropped := len(rows) - len(found):
        print(f"note: {path}: {dropped} of {len(rows)} rows without a rating or an answer dropped")
    return found


def rating_training(opened: Opened, names: Sequence[str], *, batch_size: int) -> Training:
    """A score for each of several ratings of an answer.

    Raises:
      UserError: as `rating_units`.
    """
    lab, records = opened.lab, [opened.records[i] for i in range(len(opened.records))]
    units = rating_units(records, names)
    return Training(
        lab=lab,
        first=first_heads(lab, opened.base.params, members=len(names)),
        recipe=rating_model,
        rows=lambda _: rating_rows(lab, records, units, batch_size=batch_size),
        quality=partial(rating_quality, lab, units, opened.held, batch_size=batch_size),
        compare=lambda _: {"numbers": rating_baselines(units, opened.held)},
        export=mean_head,
        trained_files=partial(rating_files, units),
    )


def rating_quality(
    lab: LanguageLab,
    units: RatingUnits,
    records: Sequence[dict],
    params: Params,
    *,
    batch_size: int,
) -> Numbers:
    """Squared error of each rating, in its variance over the training rows, and the correlation."""
    if not records:
        return {}
    scores = rating_scores(lab, params, records, batch_size=batch_size).astype(float)
    ratings, mask = standard_ratings(records, units)
    groups, numbers = dialogue_numbers(records), {}
    for name, score, rating, known in zip(units.names, scores.T, ratings.T, mask.T, strict=True):
        if not known.any():
            continue
        errors = (score[known] - rating[known]) ** 2
        numbers[f"{name}: squared error"] = grouped_mean(errors, groups[known])
        if np.ptp(rating[known]) > 0:
            numbers[f"{name}: correlation"] = correlation(score[known], rating[known])
    return numbers


def correlation(scores: np.ndarray, ratings: np.ndarray) -> float:
    """Pearson's, 0 of scores that are all the same."""
    return float(np.corrcoef(scores, ratings)[0, 1]) if np.ptp(scores) > 0 else 0.0


def rating_baselines(units: RatingUnits, records: Sequence[dict]) -> Numbers:
    """The same squared error of the training rows' mean."""
    if not records:
        return {}
    ratings, mask = standard_ratings(records, units)
    groups = dialogue_numbers(records)
    return {
        f"{name}: squared error of the mean": grouped_mean(rating[known] ** 2, groups[known])
        for name, rating, known in zip(units.names, ratings.T, mask.T, strict=True)
        if known.any()
    }


# ---- Their folder.


def rating_files(units: RatingUnits, params: Params) -> dict[str, bytes]:
    """RATINGS and RATING_WEIGHTS."""
    known = {
        "names": list(units.names),
        "means": units.means.tolist(),
        "deviations": units.deviations.tolist(),
    }
    written = io.BytesIO()
    arrays = {name: np.asarray(x, np.float32) for name, x in on_host(params["head"]).items()}
    np.savez(written, allow_pickle=False, **arrays)
    return {
        RATINGS: (json.dumps(known, ensure_ascii=False) + "\n").encode(),
        RATING_WEIGHTS: written.getvalue(),
    }


def has_ratings(folder: Path) -> bool:
    """Whether this is the folder of a reward model of several ratings."""
    return (folder / RATINGS).is_file()


def with_rating_heads(params: Params, folder: Path) -> tuple[Params, RatingUnits]:
    """The params of the folder's reward model with all of its heads, and their units.

    Raises:
      UserError: the folder has no such heads, or damaged ones.
    """
    if not has_ratings(folder):
        raise UserError(
            f"{folder} has no file {RATINGS}: it does not score ratings; rlhf reward --kind "
            "ratings makes one that does"
        )
    try:
        found: dict[str, Any] = read_object(folder / RATINGS)
        names = tuple(map(str, found["names"]))
        units = RatingUnits(
            names, np.array(found["means"], float), np.array(found["deviations"], float)
        )
        with np.load(folder / RATING_WEIGHTS, allow_pickle=False) as arrays:
            head = {name: arrays[name] for name in ("weight", "bias")}
    except (OSError, EOFError, BadZipFile, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: its heads of ratings cannot be read: {error}") from error
    shape = (len(names), params["head"]["weight"].shape[-1])
    sizes = {units.means.shape, units.deviations.shape, head["bias"].shape}
    if head["weight"].shape != shape or sizes != {shape[:1]}:
        raise UserError(
            f"{folder / RATING_WEIGHTS}: expected weights {list(shape)}, got "
            f"{list(head['weight'].shape)}"
        )
    return {**params, "head": jax.tree.map(jnp.asarray, head)}, units


def rating_place(units: RatingUnits, name: str, folder: Path) -> int:
    """The number of a rating.

    Raises:
      UserError: no rating of this name.
    """
    if name not in units.names:
        known = ", ".join(units.names)
        raise UserError(f"{folder} has no rating {name!r}; its ratings are {known}")
    return units.names.index(name)
