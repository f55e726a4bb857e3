"""Labels of pairs repaired by a vote: reward models are trained, and their strengths make columns.

strengths = voted_strengths(lab, records, policy_params, fit, voters=10, batch_size=16)
columns = repaired_columns(strengths, "flip", share=0.2, label_smoothing=0.5)
rows = pair_rows(lab, records, batch_size=16, columns=columns)
params = reward_model(stage, lab, rows, params, fit, loss=soft_margin_bradley_terry_loss)
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos import reward_model as reward_update
from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.feedback.strengths import flipped_prefs, softened_prefs, weakest_pairs
from rlhf_jax.ops.ensembles import preference_strengths
from rlhf_jax.recipes.lab import LanguageLab, stage_key, start_training
from rlhf_jax.recipes.offline import Fit, built, on_trunk, pair_scores, step_options
from rlhf_jax.recipes.rows import Records, pair_rows
from rlhf_jax.training import UserError
from rlhf_jax.types import Params

RepairKind = Literal["none", "margin", "soft", "soft-margin", "flip", "flip-margin", "drop"]


def voted_strengths(
    lab: LanguageLab,
    records: Records,
    policy_params: Params,
    fit: Fit,
    *,
    voters: int,
    batch_size: int,
    **layout: Any,
) -> np.ndarray:
    """[N] preference strength of each pair, by reward models with heads and orders of their own.

    Args:
      policy_params: the trunk that all voters start from.
      fit: of each voter; its steps should be about one pass, since a model that has learnt a wrong
        label by heart no longer doubts it. Nothing is saved between voters.
      layout: of `pair_rows`.
    Raises:
      UserError: a voter diverged, so that pairs have no strength.
    """
    check_range("[1, inf)", voters=voters)
    options = step_options(lab, fit, "reward")
    update = built(reward_update.make_update, lab.reward, fit.optimizer, **options)
    scores = []
    for voter in range(voters):
        own = lab._replace(seed=lab.seed + 1 + voter)
        first = on_trunk(own, policy_params, stage_key(own, "voter"))
        rows = pair_rows(own, records, batch_size=batch_size, **layout)
        state, step = start_training(own, first, own.axes["reward"], fit.optimizer, update)
        for i in range(fit.steps):
            state, _ = step(state, rows[i])
        scores.append(pair_scores(own, state.params, records, batch_size=batch_size))
    chosen, rejected = np.moveaxis(np.stack(scores), -1, 0)
    found = np.asarray(preference_strengths(jnp.asarray(chosen), jnp.asarray(rejected)).means)
    if lost := int((~np.isfinite(found)).sum()):
        raise UserError(
            f"{lost} of {len(found)} pairs have no strength, as a voter has scores that are not "
            "finite: lower the learning rate"
        )
    return found


def repaired_columns(
    strengths: Sequence[float] | np.ndarray,
    kind: RepairKind,
    *,
    share: float,
    label_smoothing: float,
) -> dict[str, np.ndarray]:
    """Columns "prefs" and "gaps" of `soft_margin_bradley_terry_loss`, and "weights", [N] each.

    Args:
      share: of the pairs that are flipped or dropped. label_smoothing: of pairs below 0.
    Raises:
      ValueError: no such kind, or a strength that is not finite.
    """
    if kind not in get_args(RepairKind):
        raise ValueError(f"kind must be in {list(get_args(RepairKind))}, got {kind!r}")
    check_entries("(-inf, inf)", strengths=np.asarray(strengths, np.float64))
    mu = jnp.asarray(strengths, jnp.float32)
    ones = jnp.ones_like(mu)
    prefs = {
        "soft": lambda: softened_prefs(mu, label_smoothing=label_smoothing),
        "flip": lambda: flipped_prefs(mu, share=share),
    }.get(kind.removesuffix("-margin"), lambda: ones)()
    found = {
        "prefs": prefs,
        "gaps": mu if kind.endswith("margin") else 0.0 * mu,
        "weights": 1.0 - weakest_pairs(mu, share=share) if kind == "drop" else ones,
    }
    return {name: np.asarray(column, np.float32) for name, column in found.items()}
