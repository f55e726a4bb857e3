"""Ensembles of reward models: heads on one trunk, trained on pairs, and how their folder says so.

Their folder is that of a reward model, the mean of the heads, with a file HEADS beside it, and a
file ANNOTATORS if each head has learned from the pairs of one annotator.
"""

import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rlhf_jax.algos.reward_ensemble import average_members
from rlhf_jax.cli.data import dialogue_numbers
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.layout import bucketing
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.options import Members, Padding
from rlhf_jax.cli.reward_measures import (
    beside_baselines,
    grouped_mean,
    hits,
    reward_margins,
    reward_quality,
)
from rlhf_jax.cli.session import without_bias
from rlhf_jax.data.annotators import AnnotatorMembers, annotator_members
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.ops.ensembles import mean_scores
from rlhf_jax.recipes import LanguageLab, first_heads, pair_rows, shared_reward_model
from rlhf_jax.recipes.ensembles import ensemble_of
from rlhf_jax.recipes.rows import Records
from rlhf_jax.sharding import on_host
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params, Trajectory

HEADS = "reward_heads.npy"  # weights [N, d] of the heads, float32
ANNOTATORS = "reward_annotators.json"  # who each head has learned from
MEMBERS = 5  # heads, where the options do not say


def ensemble_training(
    opened: Opened, padding: Padding, options: Members, *, batch_size: int
) -> Training:
    """N scores for each answer, from pairs; measured and written as their mean.

    Raises:
      UserError: members by annotator, and a pair has none or all are by one.
    """
    lab, records = without_bias(opened.lab), opened.records
    found = read_members(records) if options.by_annotator else None
    names = () if found is None else found.names
    weights = None if found is None else {"weights": found.weights.T}
    members = len(names) or options.members or MEMBERS
    first = first_heads(lab, opened.base.params, members=members)
    layout = bucketing(lab, records, padding, batch_size=batch_size)
    ensemble = ensemble_of(lab, first, shared=True)
    mean = lab._replace(scores=jax.jit(lambda *given: mean_scores(ensemble.scores(*given))))
    heads, held = all_heads(lab, first), opened.held

    def quality(params: Params) -> Numbers:
        numbers = reward_quality(mean, held, params, batch_size=batch_size)
        if not (names and held):
            return numbers
        own = annotator_quality(heads, names, held, params, batch_size=batch_size)
        return numbers | own

    return Training(
        lab=lab,
        first=first,
        recipe=shared_reward_model,
        rows=lambda _: pair_rows(lab, records, batch_size=batch_size, columns=weights, **layout),
        quality=quality,
        compare=partial(beside_baselines, mean, records, held, batch_size=batch_size),
        # Scores are linear in the head, so that of the mean head is the mean score.
        export=lambda params: {**params, "head": average_members(params["head"])},
        files={ANNOTATORS: (json.dumps({"annotators": names}) + "\n").encode()} if names else {},
        trained_files=heads_file,
    )


def read_members(records: Records) -> AnnotatorMembers:
    """A member for each annotator of the pairs; a line says how many pairs each has.

    Raises:
      UserError: as of `annotator_members`.
    """
    known = [{"annotator": records[i].get("annotator")} for i in range(len(records))]
    try:
        found = annotator_members(known)
    except ValueError as error:
        raise UserError(f"--by-annotator: {error}") from error
    counts = found.weights.sum(1).astype(int)
    each = ", ".join(f"{name} {n}" for name, n in zip(found.names, counts, strict=True))
    print(f"training pairs of each annotator: {each}")
    return found


def annotator_quality(
    lab: LanguageLab,
    names: Sequence[str],
    records: Sequence[dict],
    params: Params,
    *,
    batch_size: int,
) -> Numbers:
    """Accuracy on each annotator's pairs of its own member, and of the other members.

    Args:
      lab: of `all_heads`. names: annotators of the heads.
    """
    numbers = {name: i for i, name in enumerate(names)}
    rows = [i for i, row in enumerate(records) if row.get("annotator") in numbers]
    left = len(records) - len(rows)
    unknown: Numbers = {"pairs of annotators without a member": float(left)} if left else {}
    if not rows:
        return unknown
    kept = [records[i] for i in rows]
    right = hits(reward_margins(lab, kept, params, batch_size=batch_size))  # [n, N]
    mine = right[np.arange(len(rows)), [numbers[row["annotator"]] for row in kept]]
    groups = dialogue_numbers(kept)
    return unknown | {
        "accuracy, own member": grouped_mean(mine, groups),
        "accuracy, other members": grouped_mean((right.sum(1) - mine) / (len(names) - 1), groups),
    }


def heads_file(params: Params) -> dict[str, bytes]:
    """The heads beside their mean."""
    found = io.BytesIO()
    np.save(found, np.asarray(on_host(params["head"]["weight"]), np.float32))
    return {HEADS: found.getvalue()}


def read_annotators(folder: Path) -> tuple[str, ...]:
    """Who each head of a folder has learned from; nobody without the file ANNOTATORS.

    Raises:
      UserError: a damaged file.
    """
    if not (folder / ANNOTATORS).is_file():
        return ()
    try:
        return tuple(map(str, read_object(folder / ANNOTATORS)["annotators"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / ANNOTATORS} cannot be read: {error}") from error


def with_heads(lab: LanguageLab, params: Params, folder: Path) -> tuple[LanguageLab, Params]:
    """The lab and the params of a reward model's folder, with scores [*B, N] of all of its heads.

    N = 1 without the file HEADS.

    Raises:
      UserError: a file of heads of another model.
    """
    weights = np.asarray(params["head"]["weight"])[None]
    if (folder / HEADS).is_file():
        with reading_input():
            weights = np.load(folder / HEADS, allow_pickle=False)
        width = params["head"]["weight"].shape[-1]
        if weights.ndim != 2 or weights.shape[1] != width or not np.isfinite(weights).all():
            raise UserError(
                f"{folder / HEADS}: expected finite weights [N, {width}], got {weights.shape}"
            )
    params = {**params, "head": {"weight": jnp.asarray(weights), "bias": jnp.zeros(len(weights))}}
    return all_heads(lab, params), params


def all_heads(lab: LanguageLab, params: Params) -> LanguageLab:
    """The lab with scores [*B, N] of all heads in params like these."""
    ensemble = ensemble_of(lab, params, shared=True)

    def scores(params: Params, trajectory: Trajectory) -> Array:
        return jnp.moveaxis(ensemble.scores(params, trajectory), 0, -1)

    return lab._replace(scores=jax.jit(scores))
