"""Reward models of unnamed groups of users: training on pairs with a user, and held-out numbers.

Their folder is that of the language model, which is not changed, with two files beside it: GROUPS
has the users' names and groups, ARRAYS the rest of `MixtureModel`.
"""

import io
import json
from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos.mixture_reward import (
    MixtureParams,
    best_restart,
    init_restarts,
    responsibilities,
    user_losses,
)
from rlhf_jax.cli.data import dialogue_numbers
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.options import Mixture
from rlhf_jax.cli.reward_measures import beside_rivals, grouped_mean, hits, margin_quality
from rlhf_jax.cli.users import Units, units_of
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.ops.ensembles import MemberScale, member_scale, standardised_scores
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.recipes import LanguageLab
from rlhf_jax.recipes.lab import stage_key
from rlhf_jax.recipes.mixtures import mixture_model, mixture_rows, pairs_by_user
from rlhf_jax.recipes.rows import Records
from rlhf_jax.recipes.users import EmbeddedPairs, embedded_pairs, rows_by_user
from rlhf_jax.training import Stage, UserError

GROUPS, ARRAYS = "mixture_reward.json", "mixture_reward.npz"


class MixtureModel(NamedTuple):
    """What a mixture has besides its language model.

    weights: [U, d] of the groups' rewards. units: of all vectors. scale: zero and unit of each
    reward over the answers of the training pairs. users, members: names, and [H] their groups.
    """

    weights: np.ndarray
    units: Units
    scale: MemberScale
    users: tuple[Hashable, ...]
    members: np.ndarray


def mixture_training(opened: Opened, options: Mixture, *, batch_size: int) -> Training:
    """A reward for each of several groups, on the vectors of the model, which is frozen.

    Raises:
      UserError: a pair without a user, or fewer users than twice the groups.
    """
    lab, base, held = opened.lab, opened.base.params, None
    train = embedded_pairs(lab, base, opened.records, batch_size=batch_size)
    units = units_of(train)
    train = units.of(train)
    count = len(rows_by_user(train.users))
    if count < 2 * options.user_groups:
        raise UserError(
            f"--user-groups {options.user_groups} needs two users for each group, got {count}: "
            "a group of one user is that user"
        )
    if opened.held:
        held = units.of(embedded_pairs(lab, base, opened.held, batch_size=batch_size))
    reward = linear_reward(len(units.mean))
    finished = partial(finished_mixture, units, train, hard=options.hard_groups)

    def quality(params: MixtureParams) -> Numbers:
        return {} if held is None else mixture_quality(finished(params), held, opened.held)

    def compare(params: MixtureParams) -> dict[str, Any]:
        if held is None:
            return {}
        rows, margins = member_margins(finished(params), held)
        measured = [opened.held[int(i)] for i in rows]
        own = margins[np.arange(len(rows)), 0]
        return beside_rivals(lab, opened.records, measured, own)

    def recipe(stage: Stage, lab: LanguageLab, *given: Any) -> MixtureParams:
        return mixture_model(stage, lab, reward, *given, hard=options.hard_groups)

    sizes = {"groups": options.user_groups, "restarts": options.group_restarts}
    limits = {"limit": options.group_pairs, "batch_size": batch_size}
    return Training(
        lab=lab,
        first=init_restarts(stage_key(lab, "mixture"), reward, **sizes),
        recipe=recipe,
        rows=lambda _: mixture_rows(train, seed=lab.seed, **limits),
        quality=quality,
        compare=compare,
        export=lambda _: base,
        trained_files=lambda params: mixture_files(finished(params)),
        total=count,
    )


def finished_mixture(
    units: Units, train: EmbeddedPairs, params: MixtureParams, *, hard: bool
) -> MixtureModel:
    """The best restart, with the groups of the users of the training pairs.

    Args:
      train: in these units, as `params`, those of `mixture_model`.
    """
    users, pairs = pairs_by_user(train)
    reward = linear_reward(len(units.mean))
    best = best_restart(reward, params, pairs, hard=hard)
    losses = user_losses(reward, best.reward, pairs)
    gammas = responsibilities(-losses, jax.nn.softmax(best.share_logits), hard=hard)
    scores = train.vectors.reshape(-1, len(units.mean)) @ np.asarray(best.reward).T
    scale = MemberScale(*map(np.asarray, member_scale(jnp.asarray(scores.T))))
    return MixtureModel(np.asarray(best.reward), units, scale, users, np.asarray(gammas.argmax(-1)))


def member_margins(model: MixtureModel, pairs: EmbeddedPairs) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n] of trained users, and the margins [n, U] of those pairs, the user's group first.

    Raises:
      UserError: there are none.
    """
    members = dict(zip(model.users, model.members.tolist(), strict=True))
    rows = np.array([i for i, user in enumerate(pairs.users) if user in members], int)
    if not len(rows):
        raise UserError("no held-out pair is of a trained user, so nobody's group is known")
    differences = pairs.vectors[rows, 0] - pairs.vectors[rows, 1]
    margins = (differences @ model.weights.T).astype(float)
    own = np.array([members[pairs.users[i]] for i in rows])
    columns = (own[:, None] + np.arange(margins.shape[1])) % margins.shape[1]
    return rows, np.take_along_axis(margins, columns, axis=1)


def mixture_quality(model: MixtureModel, pairs: EmbeddedPairs, records: Records) -> Numbers:
    """Accuracy and calibration of each user's own group on pairs in the model's units, and
    accuracy under the other groups."""
    rows, margins = member_margins(model, pairs)
    groups = dialogue_numbers([records[int(i)] for i in rows])
    numbers = margin_quality(margins[:, 0], groups)
    numbers["accuracy, other groups"] = grouped_mean(hits(margins[:, 1:]).mean(1), groups)
    shares = np.bincount(model.members, minlength=len(model.weights)) / len(model.members)
    numbers["share of the smallest group"] = float(shares.min())
    if left := len(pairs.users) - len(rows):
        numbers["pairs of users whose group is not known"] = float(left)
    return numbers


def group_scores(model: MixtureModel, vectors: np.ndarray) -> np.ndarray:
    """[n, U] scores of vectors [n, d] by each group, in its zero and unit."""
    raw = ((vectors - model.units.mean) / model.units.std) @ model.weights.T
    return np.asarray(standardised_scores(jnp.asarray(raw.T), model.scale)).T


# ---- Their folder.


def mixture_files(model: MixtureModel) -> dict[str, bytes]:
    """GROUPS and ARRAYS."""
    names = {"users": model.users, "groups": model.members.tolist()}
    arrays = {f"vector_{name}": x for name, x in model.units._asdict().items()}
    arrays |= {f"score_{name}": x for name, x in model.scale._asdict().items()}
    written = io.BytesIO()
    np.savez(written, allow_pickle=False, weights=model.weights, **arrays)
    return {GROUPS: (json.dumps(names) + "\n").encode(), ARRAYS: written.getvalue()}


def has_mixture(folder: Path) -> bool:
    """Whether this is the folder of a mixture."""
    return (folder / GROUPS).is_file()


def read_mixture(folder: Path) -> MixtureModel:
    """What `mixture_files` wrote.

    Raises:
      UserError: the folder has no mixture, or a damaged one.
    """
    if not has_mixture(folder):
        raise UserError(
            f"{folder} has no file {GROUPS}: it has no rewards of groups, which "
            "rlhf reward --kind mixture makes"
        )
    try:
        found = read_object(folder / GROUPS)
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            units = Units(*(arrays[f"vector_{name}"] for name in Units._fields))
            scale = MemberScale(*(arrays[f"score_{name}"] for name in MemberScale._fields))
            members = np.array(found["groups"], int)
            return MixtureModel(arrays["weights"], units, scale, tuple(found["users"]), members)
    except (OSError, EOFError, BadZipFile, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: its rewards of groups cannot be read: {error}") from error


def group_number(model: MixtureModel, text: str) -> int:
    """The group that a text numbers, from 0.

    Raises:
      UserError: it is no number, or there is no such group.
    """
    if not text.isdecimal() or int(text) >= len(model.weights):
        last = len(model.weights) - 1
        raise UserError(f"{text!r} must be the number of a group, from 0 to {last}")
    return int(text)


def split_group(rest: str) -> tuple[str, Path]:
    """What stands after the colon of group_score: the number of a group, and a folder."""
    number, comma, folder = rest.partition(",")
    if not (number and comma and folder):
        raise UserError(f"group_score:{rest} must be group_score:NUMBER,FOLDER")
    return number, Path(folder)
