"""Users of two tastes on frozen vectors: a variational user model (VPL) beside Bradley-Terry."""

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

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


def judged(
    rows: list[dict], gaps: np.ndarray, minority: bool, user: str, beta: float
) -> list[dict]:
    """Pairs as a user labels them, and "right": whether the label is what its taste says."""
    found = []
    for row, gap in zip(rows, gaps, strict=True):
        mine = gap if minority else -gap
        rng = Random(f"taste/{user}/{row['index']}")
        first = rng.random() < 1.0 / (1.0 + np.exp(-beta * mine))
        right = bool(first == (mine > 0))
        sides = ("chosen", "rejected") if first else ("rejected", "chosen")
        texts = dict(zip(("chosen", "rejected"), (row[side] for side in sides), strict=True))
        found.append({"prompt": row["prompt"], "user": user, "right": right, **texts})
    return found


def make_users(
    config: Users, rows: list[dict], gaps: np.ndarray, *, both: bool, most: int, name: str
) -> list[dict]:
    """Users in turn, each with `each` of the pairs on which tastes differ.

    Args:
      both: every set of pairs goes to a user of either taste; else to one, the first of every
        1 / minority to the minority.
    """
    used = np.flatnonzero(gaps != 0.0)
    count = min(most, len(used) // config.each)
    if count < 2:
        raise UserError(f"{len(used)} pairs differ in taste, fewer than those of two users")
    found = []
    for i in range(count):
        own = used[i * config.each : (i + 1) * config.each]
        every = int((i + 1) * config.minority) > int(i * config.minority)
        for minority in (False, True) if both else (every,):
            user = f"{name}/{GROUPS[minority]}/{i}"
            part = [rows[j] for j in own]
            found += judged(part, gaps[own], minority, user, config.taste_beta)
    return found


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


def fit_users(job: Run, tools: Tools, part: Part, sets: Sets) -> dict[str, Any]:
    """Accuracy by model and group on unseen pairs of users who were not trained on."""
    config, name = tools.config.users, f"users_{part.seed}"

    def data(_: Stage) -> tuple[Any, dict]:
        train, test = (
            make_users(config, rows, taste_gaps(tools, rows), both=both, most=most, name=label)
            for rows, both, most, label in (
                (part.clean, False, config.count, f"train/{part.seed}"),
                (sets.heldout, True, config.heldout, f"test/{part.seed}"),
            )
        )
        return {}, {"train": train, "test": test}

    info = run_stage(job, f"{name}_data", data).info
    size = tools.config.training.batch_size
    pairs, test = (
        embedded_pairs(tools.lab, tools.sft, info[split], batch_size=size)
        for split in ("train", "test")
    )
    sizes = UserSizes(context=config.each // 2)
    networks = user_networks(pairs.vectors.shape[-1], sizes)
    first = init_user_model(stage_key(part.lab, "users"), *networks)
    rows = user_rows(pairs, sizes, batch_size=config.batch_size, seed=part.seed)
    fit = Fit(optax.adam(config.learning_rate), config.steps)
    found = {}
    for model, given in zip(MODELS, (rows, _NoContext(rows)), strict=True):

        def work(stage: Stage, given: Rows = given) -> tuple[UserParams, dict]:
            beta = config.latent_kl
            return user_model(stage, part.lab, networks, given, first, fit, beta=beta), {}

        done = run_stage(job, f"{name}_{model}", work, like=jax.eval_shape(lambda: first))
        right = np.array([row["right"] for row in info["test"]])
        known = sizes.context if model == "users" else 0
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
