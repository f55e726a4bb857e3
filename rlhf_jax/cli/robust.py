"""`rlhf reward --robust`: a reward model that does not use a spurious feature of the pairs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from rlhf_jax.algos.robust_reward import correlation_risk, irm_risk, mmd_risk, vrex_risk
from rlhf_jax.cli.data import dialogue_numbers
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.options import Robust
from rlhf_jax.cli.reward_measures import (
    grouped_mean,
    hits,
    length_margins,
    pair_quality,
    reward_margins,
)
from rlhf_jax.recipes import pair_rows
from rlhf_jax.recipes.robust import (
    environment_column,
    group_dro_reward_model,
    robust_reward_model,
)
from rlhf_jax.types import Params

RISKS = {"vrex": vrex_risk, "irm": irm_risk, "mmd": mmd_risk}


def robust_training(
    training: Training,
    opened: Opened,
    layout: Mapping[str, Any],
    options: Robust,
    *,
    batch_size: int,
) -> Training:
    """The training of a reward model from pairs, with the loss that the options name.

    layout: of `bucketing`.

    Raises:
      UserError: a pair without an environment, or only one environment.
    """
    columns, recipe = robust_recipe(opened.records, options)
    rows = partial(
        pair_rows, training.lab, opened.records, batch_size=batch_size, columns=columns, **layout
    )

    def quality(params: Params) -> Numbers:
        held = opened.held
        if not held:
            return {}
        margins = reward_margins(training.lab, held, params, batch_size=batch_size)
        return pair_quality(margins, held) | environment_quality(margins, held)

    return training._replace(rows=lambda _: rows(), recipe=recipe, quality=quality)


def robust_recipe(
    records: Sequence[dict], options: Robust
) -> tuple[dict[str, np.ndarray], Callable[..., Params]]:
    """Columns of the pairs, and the recipe that reads them."""
    if options.robust == "length":
        risk = partial(correlation_risk, penalty=options.robust_penalty)
        features = length_margins(records).astype(np.float32)
        return {"features": features}, partial(robust_reward_model, risk=risk)
    ids, names = environment_column(records)
    sizes = np.bincount(ids).tolist()
    print("environments: " + ", ".join(f"{x} {n}" for x, n in zip(names, sizes, strict=True)))
    columns, count = {"environments": ids}, len(names)
    if options.robust == "group_dro":
        return columns, partial(group_dro_reward_model, count=count, eta=options.robust_eta)
    risk = partial(RISKS[options.robust], count=count, penalty=options.robust_penalty)
    return columns, partial(robust_reward_model, risk=risk)


def environment_quality(margins: np.ndarray, records: Sequence[dict]) -> Numbers:
    """Accuracy in the environment where it is lowest; {} if the pairs have none."""
    found = np.array([str(row.get("environment", "")) for row in records])
    names = sorted(set(found) - {""})
    if not names:
        return {}
    right, groups = hits(margins), dialogue_numbers(records)
    worst = min(names, key=lambda name: right[found == name].mean())
    inside = found == worst
    return {"accuracy, worst environment": grouped_mean(right[inside], groups[inside])}
