"""Methods on labels: `(stage, tools, part, rate) -> params`, all from SFT.

Each reads as many choices of the teacher and learns from as many answers: steps of B pairs, of B/2
rankings of four, or of 2B single answers. A new one is an entry of OFFLINE.
"""

from functools import cache, partial
from typing import Any

import numpy as np

from experiments.shop_methods.labels import ANSWERS
from experiments.shop_methods.parts import Part
from experiments.shop_methods.world import Tools, rated
from rlhf_jax.cli.losses import NamedLoss, named_loss
from rlhf_jax.losses.preference import (
    apo_zero_unpaired_loss,
    kto_loss,
    pro_loss,
    r_dpo_loss,
    soft_preference_loss,
)
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.recipes import (
    Fit,
    answer_rows,
    bco,
    labelled_rows,
    pair_rows,
    preference,
    ranked_records,
    ranking,
    ranking_rows,
    score_range,
    supervised,
    unpaired,
)
from rlhf_jax.recipes.buckets import token_lengths
from rlhf_jax.training import Stage
from rlhf_jax.types import Params

SMOOTHING = 0.1  # of labels, about how often the teacher errs
PER_TOKEN = 0.02  # alpha of R-DPO
SFT_WEIGHT = 0.05  # of PRO


def fit_of(tools: Tools, rate: float) -> Fit:
    """As many steps for all."""
    steps = tools.config.offline.steps
    return Fit(rated(rate, steps), steps, save_every=steps)


@cache
def loss_named(name: str, **settings: float) -> NamedLoss:
    """One loss of these settings, so that its update compiles once."""
    return named_loss(name, settings)


@cache
def loss_with(loss: Any, **settings: float) -> Any:
    """The same of any function."""
    return partial(loss, **settings)


def fit_pairs(
    stage: Stage,
    tools: Tools,
    part: Part,
    rate: float,
    chosen: NamedLoss,
    columns: dict[str, np.ndarray] | None = None,
) -> Params:
    """A loss of pairs. columns: [N] of the pairs, which the loss reads."""
    reference = None
    if chosen.reference:
        reference = {side: part.reference[side] for side in ("chosen", "rejected")}
    rows = pair_rows(
        part.lab,
        part.pairs,
        batch_size=tools.config.offline.batch_size,
        reference=reference,
        columns=columns,
        buckets=part.buckets,
    )
    return preference(stage, part.lab, rows, tools.start, fit_of(tools, rate), **chosen._asdict())


def referenced(
    stage: Stage, tools: Tools, part: Part, rate: float, *, loss: str, **settings: float
) -> Params:
    """A loss with a reference, of the beta that they share."""
    chosen = loss_named(loss, beta=tools.config.offline.beta, **settings)
    return fit_pairs(stage, tools, part, rate, chosen)


def reference_free(
    stage: Stage, tools: Tools, part: Part, rate: float, *, loss: str, **settings: float
) -> Params:
    """A loss without one, with its usual settings."""
    return fit_pairs(stage, tools, part, rate, loss_named(loss, **settings))


def soft_dpo(stage: Stage, tools: Tools, part: Part, rate: float) -> Params:
    """DPO on how probable the teacher's choices are, in place of the choices (OSP)."""
    loss = loss_with(soft_preference_loss, beta=tools.config.offline.beta)
    columns = {"prefs": np.array([row["prob"] for row in part.pairs], np.float32)}
    chosen = NamedLoss(loss, sequence_logps, True)
    return fit_pairs(stage, tools, part, rate, chosen, columns)


def r_dpo(stage: Stage, tools: Tools, part: Part, rate: float) -> Params:
    """DPO with a price of length."""
    loss = loss_with(r_dpo_loss, beta=tools.config.offline.beta, alpha=PER_TOKEN)
    lengths = token_lengths(part.lab, part.pairs)[..., 1].astype(np.float32)
    columns = {"length_gaps": lengths[:, 0] - lengths[:, 1]}
    return fit_pairs(stage, tools, part, rate, NamedLoss(loss, sequence_logps, True), columns)


def sft_on_chosen(stage: Stage, tools: Tools, part: Part, rate: float) -> Params:
    """Maximum likelihood of the chosen answers, twice as often as pairs are read."""
    records = [row for row in part.answers if row["label"]]
    size = 2 * tools.config.offline.batch_size
    rows = answer_rows(part.lab, records, batch_size=size, buckets=part.buckets)
    return supervised(stage, part.lab, rows, tools.start, fit_of(tools, rate))


def single(
    stage: Stage, tools: Tools, part: Part, rate: float, *, loss: Any, mismatched: bool = False
) -> Params:
    """A loss of good and bad answers."""
    given = loss_with(loss, beta=tools.config.offline.beta)
    rows = answer_labels(tools, part)
    options = {"loss": given, "mismatched": mismatched}
    return unpaired(stage, part.lab, rows, tools.start, fit_of(tools, rate), **options)


def answer_labels(tools: Tools, part: Part) -> Any:
    """Batches of good and bad answers."""
    size = 2 * tools.config.offline.batch_size
    sides = {side: part.reference[side] for side in ("answer", "mismatched")}
    return labelled_rows(part.lab, part.answers, batch_size=size, reference=sides)


def fit_bco(stage: Stage, tools: Tools, part: Part, rate: float) -> Params:
    """BCO, which reads the same."""
    beta, rows = tools.config.offline.beta, answer_labels(tools, part)
    return bco(stage, part.lab, rows, tools.start, fit_of(tools, rate), beta=beta)


def fit_pro(stage: Stage, tools: Tools, part: Part, rate: float) -> Params:
    """PRO on rankings."""
    size = 2 * tools.config.offline.batch_size // ANSWERS
    records = ranked_records(part.rankings)
    rows = ranking_rows(part.lab, records, batch_size=size, scale=score_range(records))
    fit = fit_of(tools, rate)
    return ranking(stage, part.lab, rows, tools.start, fit, loss=pro_loss, sft_weight=SFT_WEIGHT)


OFFLINE = {
    "sft": sft_on_chosen,
    "dpo": partial(referenced, loss="dpo"),
    "ipo": partial(referenced, loss="ipo"),
    "simpo": partial(reference_free, loss="simpo"),
    "kto": partial(single, loss=kto_loss, mismatched=True),
    "pro": fit_pro,
    "cdpo": partial(referenced, loss="cdpo", label_smoothing=SMOOTHING),
    "robust_dpo": partial(referenced, loss="robust_dpo", label_smoothing=SMOOTHING),
    "soft_dpo": soft_dpo,
    "r_dpo": r_dpo,
    "orpo": partial(reference_free, loss="orpo"),
    "cpo": partial(reference_free, loss="cpo"),
    "apo_zero": partial(single, loss=apo_zero_unpaired_loss),
    "bco": fit_bco,
}
