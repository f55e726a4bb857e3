"""Losses of pairs by name: their usual settings, and what they need of the data.

A loss of `rlhf_jax.losses` is here if a file of pairs is all it needs. Whether it has a reference
and whether it reads sums or means over tokens is in the names of its arguments.
"""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlhf_jax import losses
from rlhf_jax.cli.arguments import nearest
from rlhf_jax.ops.logprobs import mean_logps, sequence_logps
from rlhf_jax.training import UserError
from rlhf_jax.types import AnswerLogps, PairLoss

# Name -> the settings that its paper, or the code of its authors, starts from.
PAIR_LOSSES: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.1},
    "ipo": {"beta": 0.1},
    "cdpo": {"beta": 0.1, "label_smoothing": 0.1},
    "robust_dpo": {"beta": 0.1, "label_smoothing": 0.1},
    "hinge_dpo": {"beta": 0.1},
    "exo": {"beta": 0.5, "label_smoothing": 0.001},
    "discopop": {"beta": 0.05, "temperature": 0.05},
    "dpop": {"beta": 0.3, "penalty": 50.0},
    "cal_dpo": {"beta": 0.001},
    "apo_zero": {"beta": 0.1},
    "apo_down": {"beta": 0.1},
    "bco_pair": {"beta": 0.1, "shift": 0.0},
    "nca": {"beta": 0.1},
    "sppo_hard": {"beta": 0.001},
    "cpl_kl": {"beta": 0.2, "bias": 0.75},
    "aot": {"beta": 0.1, "label_smoothing": 0.0},
    "aot_unpaired": {"beta": 0.1, "label_smoothing": 0.0},
    "ropo": {"beta": 0.1, "alpha": 6.0},
    "alpha_dpo": {"beta": 2.5, "gamma": 0.3, "alpha": 0.05, "mean": 0.0, "std": 1.0},
    "simpo": {"beta": 2.0, "gamma": 1.0, "label_smoothing": 0.0},
    "cpo": {"beta": 0.1, "label_smoothing": 0.0},
    "orpo": {"beta": 0.1},
    "slic": {"delta": 1.0},
    "simper": {},
    "alpha_po": {"beta": 2.5, "gamma": 0.1, "alpha": 0.25, "label_smoothing": 0.0},
}


class NamedLoss(NamedTuple):
    """A loss with its settings. logps: what it reads of an answer. reference: if it has one."""

    loss: PairLoss
    logps: AnswerLogps
    reference: bool


def named_loss(name: str, settings: Mapping[str, float]) -> NamedLoss:
    """A loss of PAIR_LOSSES; `settings` replace its usual ones.

    Raises:
      UserError: no such loss or setting, or a value out of range.
    """
    key = name.replace("-", "_").removesuffix("_loss")
    if key not in PAIR_LOSSES:
        raise UserError(f"--loss {name} is not a loss of pairs{nearest(key, list(PAIR_LOSSES))}")
    usual = PAIR_LOSSES[key]
    if unknown := [each for each in settings if each not in usual]:
        known = ", ".join(f"{each} {value:g}" for each, value in usual.items()) or "no settings"
        raise UserError(f"--loss {name} has no setting {unknown[0]}; it has {known}")
    function: Any = getattr(losses, f"{key}_loss")
    signature = inspect.signature(function)
    columns = list(signature.parameters)
    means = "mean_logps" in columns[0]
    loss = partial(function, **{**usual, **settings})
    arrays = sum(
        each.kind is not each.KEYWORD_ONLY and each.default is each.empty
        for each in signature.parameters.values()
    )
    try:
        jax.eval_shape(loss, *[jnp.zeros(2)] * arrays)  # the loss checks its settings
    except ValueError as error:
        raise UserError(f"--loss-options: {error}") from error
    return NamedLoss(
        loss=loss,
        logps=mean_logps if means else sequence_logps,
        reference=any(column.startswith("ref_") for column in columns),
    )
