"""Pairs of SFT answers labelled by one judge each, and the two models fitted to them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop_nash.config import Fit as Size
from experiments.shop_nash.population import utilities_of
from rlhf_jax.envs import shop
from rlhf_jax.ops.statistics import wins
from rlhf_jax.recipes import (
    Fit,
    Labels,
    LanguageLab,
    adamw_cosine,
    on_trunk,
    pair_rows,
    preference_model,
    reward_model,
    stage_key,
)
from rlhf_jax.recipes.offline import pair_scores, preference_of, score_scale
from rlhf_jax.recipes.rows import Records, in_chunks, pair_batch
from rlhf_jax.recipes.task import Teacher
from rlhf_jax.training import Stage
from rlhf_jax.types import Params


def population_teacher(seed: int, *, beta: float) -> Teacher:
    """A judge drawn from the population for each pair; equal answers are left out.

    The column "pref" is the population's preference for the chosen answer.
    """

    def label(
        key: jax.Array, indices: np.ndarray, first: Sequence[str], second: Sequence[str]
    ) -> Labels:
        sides = [utilities_of(seed, indices, list(side)) for side in (first, second)]
        prefs = shop.group_prefs(np.stack(sides, axis=1), beta=beta)[:, 0, 1]
        won = np.random.default_rng([seed, len(indices)]).random(len(indices)) < prefs
        differ = np.array([a != b for a, b in zip(first, second, strict=True)])
        return Labels(1 - won, differ, {"pref": np.where(won, prefs, 1.0 - prefs)})

    return label


def fit_bradley_terry(
    stage: Stage, lab: LanguageLab, config: Size, sft: Params, pairs: Records, heldout: Records
) -> tuple[Params, dict[str, Any]]:
    """Reward model; its held-out accuracy, and mean and deviation of its scores there."""
    start = on_trunk(lab, sft, stage_key(lab, "reward"))
    rows = pair_rows(lab, pairs, batch_size=config.batch_size)
    params = reward_model(stage, lab, rows, start, fit_of(config))
    found = pair_scores(lab, params, heldout, batch_size=config.batch_size)
    correct = np.asarray(wins(*jnp.asarray(found).T))
    facts = score_scale(stage.name, found)._asdict()
    return params, facts | {"correct": correct.tolist(), "best": best_accuracy(heldout)}


def fit_preference_model(
    stage: Stage, lab: LanguageLab, config: Size, sft: Params, pairs: Records, heldout: Records
) -> tuple[Params, dict[str, Any]]:
    """Pairwise model from the SFT trunk, and its held-out accuracy."""
    start = on_trunk(lab, sft, stage_key(lab, "preference"))
    rows = pair_rows(lab, pairs, batch_size=config.batch_size)
    params = preference_model(stage, lab, rows, start, fit_of(config))
    logits = jax.jit(preference_of(lab).logits)

    def margins(part: list[dict]) -> jax.Array:
        batch = pair_batch(lab, part)
        return logits(params, batch.chosen, batch.rejected)

    found = in_chunks(margins, heldout, size=config.batch_size)
    correct = 0.5 + 0.5 * np.sign(found)
    return params, {"correct": correct.tolist(), "best": best_accuracy(heldout)}


def fit_of(config: Size, *, save_every: int = 100) -> Fit:
    """AdamW on a cosine for the steps of a config."""
    return Fit(adamw_cosine(config.rate, config.steps), config.steps, save_every)


def best_accuracy(heldout: Records) -> float:
    """Expected accuracy on labels of one judge each of who knows the population's preferences."""
    prefs = np.array([row["pref"] for row in heldout])
    return float(np.maximum(prefs, 1.0 - prefs).mean())
