"""Users of two tastes on frozen vectors: a variational user model (VPL) beside Bradley-Terry."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from experiments.shop_rewards.config import Users
from experiments.shop_rewards.sets import Sets
from experiments.shop_rewards.world import Part, Tools, axes_of
from rlhf_jax.algos.user_reward import UserBatch, UserParams, init_user_model, posterior_of
from rlhf_jax.envs.shop import AXES
from rlhf_jax.ops.statistics import wins
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.recipes import (
    Fit,
    UserSizes,
    embedded_pairs,
    stage_key,
    user_model,
    user_networks,
    user_rows,
)
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.recipes.users import EmbeddedPairs, UserNetworks, first_contexts, rows_by_user
from rlhf_jax.training import Run, Stage, UserError, run_stage
from rlhf_jax.types import with_latents

TASTE = {"polite": 1.0, "concise": -1.0}  # of the minority; the others want the opposite
GROUPS = ("majority", "minority")
MODELS = ("users", "Bradley-Terry")


def taste_gaps(tools: Tools, pairs: list[dict]) -> np.ndarray:
    """[N] how much more the minority likes the answer "chosen" than the other one."""
    weights = np.array([TASTE.get(axis, 0.0) for axis in AXES])

    def value(row: dict, side: str) -> float:
        return float(axes_of(tools.config.seed, row["index"], row[side]) @ weights)

    return np.array([value(row, "chosen") - value(row, "rejected") for row in pairs])


def differing(tools: Tools, pairs: list[dict]) -> np.ndarray:
    """[N] the same, 0 for what is a tie to the gold teacher too."""
    gaps = taste_gaps(tools, pairs)
    return np.where(np.abs(gaps) > tools.config.data.tie_gap, gaps, 0.0)


def standardised(vectors: Float[np.ndarray, "N 2 d"], count: int) -> Float[np.ndarray, "N 2 d"]:
    """Each feature with mean 0 and deviation 1 over the answers of the first pairs."""
    first = vectors[:count]
    deviation = first.std((0, 1))
    return (vectors - first.mean((0, 1))) / np.where(deviation > 0.0, deviation, 1.0)


def chosen_first(gap: float, minority: bool, user: str, index: int, beta: float) -> bool:
    """Whether a user labels the pair as it stands, by a Bradley-Terry model of its taste."""
    mine = gap if minority else -gap
    return Random(f"taste/{user}/{index}").random() < 1.0 / (1.0 + np.exp(-beta * mine))


class Judgements(NamedTuple):
    """What users say of pairs. pairs: [N] number of the pair. users: who judges; its name ends with
    its group and number. first: [N] whether the answer "chosen" is liked better. right: [N] whether
    that is what the taste says."""

    pairs: np.ndarray
    users: tuple[str, ...]
    first: np.ndarray
    right: np.ndarray


def make_users(
    config: Users, indices: Sequence[int], gaps: np.ndarray, *, both: bool, most: int, name: str
) -> Judgements:
    """Users with `each` different pairs, drawn from those on which tastes differ.

    Args:
      indices: numbers of the prompts. both: every set of pairs goes to a user of either taste; else
        to one, the first of every 1 / minority to the minority. most: sets of pairs.
    """
    used = np.flatnonzero(gaps != 0.0)
    if len(used) < config.each:
        raise UserError(
            f"{len(used)} pairs differ in taste, fewer than users.each = {config.each}: raise "
            "data.prompts or data.heldout"
        )
    rows: list[tuple[int, str, bool, bool]] = []
    for i in range(most):
        own = Random(f"pairs/{name}/{i}").sample(range(len(used)), config.each)
        every = int((i + 1) * config.minority) > int(i * config.minority)
        for minority in (False, True) if both else (every,):
            user = f"{name}/{GROUPS[minority]}/{i}"
            for j in used[own].tolist():
                first = chosen_first(gaps[j], minority, user, indices[j], config.taste_beta)
                rows.append((j, user, first, first == ((gaps[j] > 0) == minority)))
    pairs, users, first, right = zip(*rows, strict=True)
    return Judgements(np.array(pairs), users, np.array(first), np.array(right))


def embedded(vectors: Float[np.ndarray, "N 2 d"], found: Judgements) -> EmbeddedPairs:
    """The vectors of each judged pair, that of the liked answer first."""
    own = vectors[found.pairs]
    return EmbeddedPairs(np.where(found.first[:, None, None], own, own[:, ::-1]), found.users)


@dataclass(frozen=True)
class _NoContext:
    """The same batches without anything from which a user could be recognised."""

    rows: Rows

    def __getitem__(self, step: int, /) -> UserBatch:
        batch = self.rows[step]
        mask = jnp.zeros_like(batch.context.mask)
        return replace(
            batch, context=replace(batch.context, mask=mask), noise=jnp.zeros_like(batch.noise)
        )


@cache
def fit_of(config: Users) -> Fit:
    """One of a config, so that an update compiles once for all seeds and models."""
    return Fit(optax.adam(config.learning_rate), config.steps)


def fit_users(job: Run, tools: Tools, part: Part, sets: Sets) -> dict[str, Any]:
    """Accuracy by model and group on unseen pairs of users who were not trained on."""
    config, name = tools.config.users, f"users_{part.seed}"

    def vectors(_: Stage) -> tuple[Any, dict]:
        size = 2 * tools.config.training.batch_size
        named = ({**row, "user": 0} for rows in (part.clean, sets.heldout) for row in rows)
        return embedded_pairs(tools.lab, tools.sft, list(named), batch_size=size).vectors, {}

    every = np.asarray(run_stage(job, f"{name}_vectors", vectors).arrays)
    split = np.split(standardised(every, len(part.clean)), [len(part.clean)])
    judged = [
        make_users(
            *(config, [row["index"] for row in rows], differing(tools, rows)),
            both=both,
            most=most,
            name=f"{label}/{part.seed}",
        )
        for rows, both, most, label in (
            (part.clean, False, config.count, "train"),
            (sets.heldout, True, config.heldout, "test"),
        )
    ]
    pairs, test = (embedded(*each) for each in zip(split, judged, strict=True))
    sizes = UserSizes(context=config.each // 2)
    networks = user_networks(pairs.vectors.shape[-1], sizes)
    first = init_user_model(stage_key(part.lab, "users"), *networks)
    rows = user_rows(pairs, sizes, batch_size=config.batch_size, seed=part.seed)
    fit = fit_of(config)
    found = {}
    for model, given in zip(MODELS, (rows, _NoContext(rows)), strict=True):

        def work(stage: Stage, given: Rows = given) -> tuple[UserParams, dict]:
            beta = config.latent_kl
            return user_model(stage, part.lab, networks, given, first, fit, beta=beta), {}

        done = run_stage(job, f"{name}_{model}", work, like=jax.eval_shape(lambda: first))
        known = sizes.context if model == "users" else 0
        right = judged[1].right
        found[model] = group_accuracies(networks, done.arrays, test, right, sizes, known)
        found[model]["seconds"] = done.seconds
    return found


def group_accuracies(
    networks: UserNetworks,
    params: UserParams,
    test: EmbeddedPairs,
    right: np.ndarray,
    sizes: UserSizes,
    known: int,
) -> dict[str, float]:
    """How often the scores order two answers as the user's taste does.

    Args:
      right: [N] whether a label is what the taste says. known: how many pairs of a user are shown,
        all of the context or none; the context is never measured.
    """
    users, context = first_contexts(test, sizes)
    if not known:
        context = replace(context, mask=jnp.zeros_like(context.mask))
    latents = posterior_of(networks.encoder, params, context).means
    hits: dict[str, list[float]] = {group: [] for group in GROUPS}
    for i, rows in enumerate(rows_by_user(test.users).values()):
        unseen = rows[sizes.context :]
        sides = (vector_trajectory(jnp.asarray(test.vectors[unseen, k])) for k in (0, 1))
        scores = [networks.reward.scores(params.reward, with_latents(x, latents[i])) for x in sides]
        won = np.asarray(wins(*scores))
        hits[str(users[i]).split("/")[2]] += np.where(right[unseen], won, 1.0 - won).tolist()
    return {group: float(np.mean(each)) for group, each in hits.items()}
