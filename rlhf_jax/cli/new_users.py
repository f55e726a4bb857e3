"""Users that a reward of users has not been trained on: who they are, by a few comparisons."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlhf_jax.algos.user_reward import posterior_of
from rlhf_jax.cli.data import pair_key, read_pairs
from rlhf_jax.cli.layout import narrowed
from rlhf_jax.cli.users import UserModel
from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.recipes import LanguageLab
from rlhf_jax.recipes.users import embedded_pairs, first_contexts, rows_by_user
from rlhf_jax.training import UserError
from rlhf_jax.types import Params, UserPosterior

BATCH = 16  # rows at a time
NOBODY = "the user"  # whose comparisons a file has that names none


class Comparisons(NamedTuple):
    """Comparisons of several users, and what they say of each.

    records: pairs with a user. users: U names. posterior: [U, k], of all comparisons of each.
    """

    records: list[dict]
    users: tuple[Hashable, ...]
    posterior: UserPosterior


def read_comparisons(path: Path, chat: ChatTemplate | None) -> list[dict]:
    """Pairs with a user; if no row of the file names one, they are all of NOBODY.

    A note counts users with a single comparison.
    """
    records = list(read_pairs(path, chat))
    if not any("user" in row for row in records):
        records = [{**row, "user": NOBODY} for row in records]
    counts = [len(own) for own in rows_by_user([row.get("user") for row in records]).values()]
    if alone := counts.count(1):
        print(f"note: {path}: {alone} of {len(counts)} users have a single comparison")
    return records


def open_comparisons(lab: LanguageLab, params: Params, model: UserModel, path: Path) -> Comparisons:
    """The comparisons of a file, encoded.

    Raises:
      UserError: some pairs have a user and others none.
    """
    records = read_comparisons(path, lab.chat)
    pairs = embedded_pairs(narrowed(lab, records), params, records, batch_size=BATCH)
    most = max(len(own) for own in rows_by_user(pairs.users).values())
    sizes = replace(model.sizes, context=most)
    users, context = first_contexts(model.units.of(pairs), sizes)
    return Comparisons(
        records, users, posterior_of(model.networks().encoder, model.params, context)
    )


def told_users(model: UserModel, found: Comparisons) -> UserModel:
    """The model that knows these users too; one that it was trained on is known by these alone."""
    known = dict(zip(model.users, model.latents, strict=True))
    known |= dict(zip(found.users, np.asarray(found.posterior.means), strict=True))
    return model._replace(users=tuple(known), latents=np.stack([*known.values()]))


def asked_users(
    lab: LanguageLab, params: Params, model: UserModel, path: Path, records: Sequence[dict]
) -> tuple[UserModel, list[dict]]:
    """The model with the users of a file of comparisons, and the records that are measured.

    Records without a user, all of them, are of the one user of the file.

    Raises:
      UserError: records without a user and several users, or a record that is a comparison of the
        same user: it would be explained by itself.
    """
    found = open_comparisons(lab, params, model, path)
    measured = list(records)
    if not any("user" in row for row in measured):
        if len(found.users) > 1:
            raise UserError(
                f"--data names no user, and {path} has {len(found.users)}: write who judged into "
                'the field "user"'
            )
        measured = [{**row, "user": found.users[0]} for row in measured]
    shown = {(row["user"], pair_key(row)) for row in found.records}
    if both := sum((row.get("user"), pair_key(row)) in shown for row in measured):
        raise UserError(
            f"{both} of {len(measured)} pairs of --data are in {path} too, for the same user: a "
            "pair that shows who the user is would be explained by itself; leave it out of one file"
        )
    return told_users(model, found), measured
