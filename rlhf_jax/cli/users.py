"""Reward models of users who differ: training on pairs with a user, and held-out numbers.

Their folder is that of the language model, which is not changed, with two files beside it: SIZES
has the sizes and the users' names, ARRAYS the rest of `UserModel`.
"""

import io
import json
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos.user_reward import UserParams, init_user_model, posterior_of, prior_kl
from rlhf_jax.cli.data import dialogue_numbers
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.options import Users
from rlhf_jax.cli.reward_measures import beside_rivals, grouped_mean, hits, margin_quality
from rlhf_jax.data.users import user_sets
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.ops.games import score_win_rates
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.recipes import LanguageLab
from rlhf_jax.recipes.lab import stage_key
from rlhf_jax.recipes.rows import Records
from rlhf_jax.recipes.users import (
    EmbeddedPairs,
    UserNetworks,
    UserSizes,
    context_of,
    embedded_pairs,
    first_contexts,
    rows_by_user,
    user_model,
    user_networks,
    user_rows,
)
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import with_latents

SIZES, ARRAYS = "user_reward.json", "user_reward.npz"
REFERENCES = 256  # answers of the training pairs over which win rates are taken


class Units(NamedTuple):
    """mean, std: [d] of the vectors of the training answers."""

    mean: np.ndarray
    std: np.ndarray

    def of(self, pairs: EmbeddedPairs) -> EmbeddedPairs:
        """The pairs with vectors of mean 0 and variance 1, as the networks read them."""
        return pairs._replace(vectors=(pairs.vectors - self.mean) / self.std)


def units_of(pairs: EmbeddedPairs) -> Units:
    """Of the vectors of training pairs."""
    return Units(pairs.vectors.mean((0, 1)), pairs.vectors.std((0, 1)) + 1e-6)


class UserModel(NamedTuple):
    """What a reward of users has besides its language model.

    params: of `user_networks`. units: of all vectors. users, latents: names, and [U, k] posterior
    means. references: [R, d] vectors of training answers.
    """

    sizes: UserSizes
    params: UserParams
    units: Units
    users: tuple[Hashable, ...]
    latents: np.ndarray
    references: np.ndarray

    def networks(self) -> UserNetworks:
        """The functions of `params`."""
        return user_networks(len(self.units.mean), self.sizes)


def user_training(opened: Opened, options: Users, *, batch_size: int) -> Training:
    """A reward that reads the latent of a user, on the vectors of the model, which is frozen.

    Raises:
      UserError: a pair without a user, or no user with two pairs.
    """
    lab, base, held = opened.lab, opened.base.params, None
    sizes = UserSizes(
        context=options.user_context,
        targets=options.user_targets,
        latent_dim=options.latent_dim,
        width=options.latent_width,
    )
    train = embedded_pairs(lab, base, opened.records, batch_size=batch_size)
    units = units_of(train)
    train = with_two_pairs(units.of(train))
    if opened.held:
        held = units.of(embedded_pairs(lab, base, opened.held, batch_size=batch_size))
    networks = user_networks(len(units.mean), sizes)
    finished = partial(_finished, sizes, units, train)

    def quality(params: UserParams) -> Numbers:
        if held is None:
            return {}
        posterior = posterior_of(networks.encoder, params, first_contexts(train, sizes)[1])
        found = user_quality(finished(params), held, opened.held)
        return found | {"KL to the prior": float(prior_kl(params, posterior).mean())}

    def compare(params: UserParams) -> dict[str, Any]:
        if held is None:
            return {}
        found = served(finished(params), held)
        measured = [opened.held[int(i)] for i in found.rows]
        return beside_rivals(lab, opened.records, measured, found.margins)

    def recipe(stage: Stage, lab: LanguageLab, *given: Any) -> UserParams:
        return user_model(stage, lab, networks, *given, beta=options.latent_kl)

    return Training(
        lab=lab,
        first=init_user_model(stage_key(lab, "users"), *networks),
        recipe=recipe,
        rows=lambda _: user_rows(train, sizes, batch_size=batch_size, seed=lab.seed),
        quality=quality,
        compare=compare,
        export=lambda _: base,
        trained_files=lambda params: user_files(finished(params)),
        total=len(rows_by_user(train.users)),
    )


def _finished(
    sizes: UserSizes, units: Units, train: EmbeddedPairs, params: UserParams
) -> UserModel:
    """The trained model, with the latents of the users of the training pairs, in these units."""
    users, contexts = first_contexts(train, sizes)
    networks = user_networks(len(units.mean), sizes)
    latents = np.asarray(posterior_of(networks.encoder, params, contexts).means)
    every = -(-2 * len(train.users) // REFERENCES)
    references = train.vectors.reshape(-1, len(units.mean))[::every]
    return UserModel(sizes, params, units, users, latents, references)


def with_two_pairs(pairs: EmbeddedPairs) -> EmbeddedPairs:
    """The pairs of users who have two or more; a note counts the other users.

    Raises:
      UserError: there is no such user.
    """
    rows = rows_by_user(pairs.users)
    kept = [own for own in rows.values() if len(own) > 1]
    if not kept:
        raise UserError(
            f"all {len(rows)} users have a single pair each; a user needs one to be recognised by "
            "and another to be explained"
        )
    if alone := len(rows) - len(kept):
        print(f"note: {alone} of {len(rows)} users have a single training pair and are left out")
    order = sorted(int(row) for own in kept for row in own)
    return EmbeddedPairs(pairs.vectors[order], tuple(pairs.users[i] for i in order))


class Served(NamedTuple):
    """n pairs that are measured.

    rows: [n] their numbers. margins: [n] under the latent of the user. others: [n] under that of
    another user, None if there is one user. new: [n] whether the user was not trained on.
    """

    rows: np.ndarray
    margins: np.ndarray
    others: np.ndarray | None
    new: np.ndarray


def served(model: UserModel, pairs: EmbeddedPairs) -> Served:
    """Scores of pairs, in the model's units, that no latent has seen.

    Users of the training have their latents from it. A new user is encoded by up to
    `sizes.context` of its pairs here, and its other pairs are measured: one needs two.

    Raises:
      UserError: no pair is left to measure.
    """
    numbers = {user: i for i, user in enumerate(model.users)}
    old = [i for i, user in enumerate(pairs.users) if user in numbers]
    fresh = [i for i, user in enumerate(pairs.users) if user not in numbers]
    rows, latents = [np.array(old, int)], [model.latents[[numbers[pairs.users[i]] for i in old]]]
    counts = rows_by_user([pairs.users[i] for i in fresh])
    if any(len(own) > 1 for own in counts.values()):
        sets = user_sets(
            [pairs.users[i] for i in fresh],
            context=model.sizes.context,
            targets=max(map(len, counts.values())),
            seed=0,
            single="drop",
        )
        places = np.array(fresh)
        context = context_of(pairs.vectors[places[sets.context]], sets.context_mask)
        means = posterior_of(model.networks().encoder, model.params, context).means
        who, column = np.nonzero(sets.targets_mask)
        rows.append(places[sets.targets[who, column]])
        latents.append(np.asarray(means)[who])
    kept, z = np.concatenate(rows), np.concatenate(latents)
    if not len(kept):
        raise UserError(
            "no held-out pair is of a trained user, or of a user with two pairs: all "
            f"{len(counts)} users are new and have a single one"
        )
    new = np.arange(len(kept)) >= len(old)
    vectors = pairs.vectors[kept]
    others = _of_another(model, [pairs.users[i] for i in kept], numbers)
    under = None if others is None else _margins(model, vectors, others)
    return Served(kept, _margins(model, vectors, z), under, new)


def _of_another(
    model: UserModel, users: Sequence[Hashable], numbers: dict[Hashable, int]
) -> np.ndarray | None:
    """[n, k] the latent of a trained user who is another one, the same for all of a user's rows."""
    size = len(model.users)
    if size < 2:
        return None
    order = np.random.default_rng(0).permutation(size)
    after = np.empty(size, int)
    after[order] = np.roll(order, 1)
    return model.latents[[after[numbers[user]] if user in numbers else 0 for user in users]]


def _margins(model: UserModel, vectors: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """[n] score of the chosen minus that of the rejected answer."""
    scores = user_scores(model, vectors, latents).astype(float)
    return scores[:, 0] - scores[:, 1]


def user_scores(model: UserModel, vectors: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """[n, m] scores of vectors [n, m, d], in the model's units, under latents [n, k]."""
    given = with_latents(vector_trajectory(jnp.asarray(vectors)), jnp.asarray(latents))
    return np.asarray(model.networks().reward.scores(model.params.reward, given))


def user_win_rates(model: UserModel, vectors: np.ndarray, users: Sequence[Hashable]) -> np.ndarray:
    """[n] mean P(an answer beats one of the references) by its user's reward, in [0, 1]."""
    latents = latents_of(model, users)
    scores = user_scores(model, vectors[:, None], latents)
    found = np.empty(len(users))
    for user, own in rows_by_user(users).items():
        z = latents_of(model, [user])
        references = user_scores(model, model.references[None], z)
        found[own] = score_win_rates(jnp.asarray(scores[own, 0]), jnp.asarray(references[0]))
    return found


def latents_of(model: UserModel, users: Sequence[Hashable]) -> np.ndarray:
    """[n, k].

    Raises:
      UserError: a user who was not trained on.
    """
    numbers = {user: i for i, user in enumerate(model.users)}
    unknown = [user for user in users if user not in numbers]
    if unknown:
        known = ", ".join(repr(user) for user in model.users[:5])
        raise UserError(
            f"the reward knows no user {unknown[0]!r}; it was trained on {len(numbers)} users "
            f"({known}{', ...' if len(numbers) > 5 else ''})"
        )
    return model.latents[[numbers[user] for user in users]]


def user_quality(model: UserModel, pairs: EmbeddedPairs, records: Records) -> Numbers:
    """Accuracy and calibration on pairs in the model's units; under another user's latent too."""
    found = served(model, pairs)
    groups = dialogue_numbers([records[int(i)] for i in found.rows])
    numbers = margin_quality(found.margins, groups)
    if found.others is not None:
        name = "accuracy, latent of another user"
        numbers[name] = grouped_mean(hits(found.others), groups)
    if found.new.any() and not found.new.all():
        numbers["accuracy, new users"] = grouped_mean(
            hits(found.margins[found.new]), groups[found.new]
        )
    known = set(model.users)
    alone = list(Counter(user for user in pairs.users if user not in known).values()).count(1)
    for name, count in (
        ("pairs that show who a new user is", len(pairs.users) - len(found.rows) - alone),
        ("new users with a single pair, not measured", alone),
    ):
        numbers |= {name: float(count)} if count else {}
    return numbers


# ---- Their folder.


def user_files(model: UserModel) -> dict[str, bytes]:
    """SIZES and ARRAYS."""
    sizes = {**vars(model.sizes), "features": len(model.units.mean), "users": model.users}
    arrays = {**model.units._asdict(), "latents": model.latents, "references": model.references}
    leaves = {f"params/{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(model.params))}
    written = io.BytesIO()
    np.savez(written, allow_pickle=False, **arrays, **leaves)
    return {SIZES: (json.dumps(sizes) + "\n").encode(), ARRAYS: written.getvalue()}


def has_users(folder: Path) -> bool:
    """Whether this is the folder of a reward of users."""
    return (folder / SIZES).is_file()


def read_user_model(folder: Path) -> UserModel:
    """What `user_files` wrote.

    Raises:
      UserError: the folder has no reward of users, or a damaged one.
    """
    if not has_users(folder):
        raise UserError(
            f"{folder} has no file {SIZES}: it is not a reward of users, which "
            "rlhf reward --kind users makes"
        )
    try:
        found = read_object(folder / SIZES)
        users, features = tuple(found.pop("users")), found.pop("features")
        sizes = UserSizes(**found)
        networks = user_networks(features, sizes)
        empty = jax.eval_shape(partial(init_user_model, jax.random.key(0), *networks))
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            units = Units(arrays["mean"], arrays["std"])
            kept = (users, arrays["latents"], arrays["references"])
            leaves = [arrays[f"params/{i}"] for i in range(len(jax.tree.leaves(empty)))]
    except (OSError, EOFError, BadZipFile, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: its reward of users cannot be read: {error}") from error
    params = jax.tree.unflatten(jax.tree.structure(empty), leaves)
    return UserModel(sizes, params, units, *kept)
