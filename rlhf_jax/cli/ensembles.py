"""Ensembles of reward models: heads on one trunk, trained on pairs, and how their folder says so.

Their folder is that of a reward model, the mean of the heads, with a file HEADS beside it.
"""

import io
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rlhf_jax.algos.reward_ensemble import average_members
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.layout import bucketing
from rlhf_jax.cli.options import Ensemble, Padding
from rlhf_jax.cli.reward_measures import beside_baselines, reward_quality
from rlhf_jax.cli.session import without_bias
from rlhf_jax.data.annotators import annotator_members
from rlhf_jax.ops.ensembles import mean_scores
from rlhf_jax.recipes import LanguageLab, first_heads, pair_rows, shared_reward_model
from rlhf_jax.recipes.ensembles import ensemble_of
from rlhf_jax.sharding import on_host
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params, Trajectory

HEADS = "reward_heads.npy"  # weights [N, d] of the heads, float32


def ensemble_training(
    opened: Opened, options: Ensemble, padding: Padding, *, batch_size: int
) -> Training:
    """N scores for each answer, from pairs; measured and written as their mean.

    Raises:
      UserError: --by-user with a pair without a user, or with one user.
    """
    lab, records = without_bias(opened.lab), opened.records
    members, layout = options.members, bucketing(lab, records, padding, batch_size=batch_size)
    if options.by_user:
        with reading_input():
            found = annotator_members([records[i] for i in range(len(records))])
        members, layout["columns"] = len(found.names), {"weights": found.weights.T}
        print(f"users: {members}, each with a head")
    first = first_heads(lab, opened.base.params, members=members)
    ensemble = ensemble_of(lab, first, shared=True)
    mean = lab._replace(scores=jax.jit(lambda *given: mean_scores(ensemble.scores(*given))))
    return Training(
        lab=lab,
        first=first,
        recipe=shared_reward_model,
        rows=lambda _: pair_rows(lab, records, batch_size=batch_size, **layout),
        quality=partial(reward_quality, mean, opened.held, batch_size=batch_size),
        compare=partial(beside_baselines, mean, records, opened.held, batch_size=batch_size),
        # Scores are linear in the head, so that of the mean head is the mean score.
        export=lambda params: {**params, "head": average_members(params["head"])},
        trained_files=heads_file,
    )


def heads_file(params: Params) -> dict[str, bytes]:
    """The heads beside their mean."""
    found = io.BytesIO()
    np.save(found, np.asarray(on_host(params["head"]["weight"]), np.float32))
    return {HEADS: found.getvalue()}


def with_heads(lab: LanguageLab, params: Params, folder: Path) -> tuple[LanguageLab, Params]:
    """The lab and the params of a reward model's folder, with scores [B, N] of all of its heads.

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
    ensemble = ensemble_of(lab, params, shared=True)

    def scores(params: Params, trajectory: Trajectory) -> Array:
        return ensemble.scores(params, trajectory).T

    return lab._replace(scores=jax.jit(scores)), params
