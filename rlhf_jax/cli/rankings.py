"""Commands on ranked answers of any number to a prompt: pro, ranking."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax import losses
from rlhf_jax.checks import check_fields, check_range
from rlhf_jax.cli.arguments import nearest
from rlhf_jax.cli.data import read_rankings
from rlhf_jax.cli.frame import Opened, Training, train_offline
from rlhf_jax.cli.measures import Numbers, side_logps, with_interval
from rlhf_jax.cli.options import Adapter, Model, Optimizer, Output, Rows
from rlhf_jax.cli.session import start_policy
from rlhf_jax.ops.logprobs import mean_logps, sequence_logps
from rlhf_jax.ops.rankings import ranking_accuracy
from rlhf_jax.recipes import (
    LanguageLab,
    ScoreRange,
    ranking,
    ranking_reference,
    ranking_rows,
    score_range,
)
from rlhf_jax.recipes.tokens import flat_answers
from rlhf_jax.training import UserError
from rlhf_jax.types import AnswerLogps, Params, RankingLoss

# Name -> the settings that its paper starts from; sft_weight is of `pro_sft_loss`, for any of them.
RANKING_LOSSES: dict[str, dict[str, float]] = {
    "pro": {"sft_weight": 0.05},
    "plackett_luce": {"sft_weight": 0.05},
    "rrhf": {"sft_weight": 0.0},
    "pl_dpo": {"beta": 0.1, "sft_weight": 0.0},
    "lipo": {"beta": 0.1, "sft_weight": 0.0},
    "lire": {"temperature": 2.0, "sft_weight": 0.0},
}


class ListLoss(NamedTuple):
    """A loss of lists with its settings, as `algos.ranking.make_update` takes it."""

    loss: RankingLoss
    logps: AnswerLogps
    reads: tuple[str, ...]
    sft_weight: float


def named_ranking_loss(name: str, settings: Mapping[str, float]) -> ListLoss:
    """A loss of RANKING_LOSSES; `settings` replace its usual ones.

    Raises:
      UserError: no such loss or setting, or a value out of range.
    """
    key = name.replace("-", "_").removesuffix("_loss")
    if key not in RANKING_LOSSES:
        known = list(RANKING_LOSSES)
        raise UserError(f"--loss {name} is not a loss of rankings{nearest(key, known)}")
    usual = RANKING_LOSSES[key]
    if unknown := [each for each in settings if each not in usual]:
        known = ", ".join(f"{each} {value:g}" for each, value in usual.items())
        raise UserError(f"--loss {name} has no setting {unknown[0]}; it has {known}")
    chosen = {**usual, **settings}
    sft_weight = chosen.pop("sft_weight")
    function: Any = getattr(losses, f"{key}_loss")
    # plackett_luce_loss calls its first argument scores; here it reads log-probs, as PRO does.
    first, *columns = inspect.signature(function).parameters
    means = first == "mean_logps" or key == "plackett_luce"
    reads = tuple(column for column in columns if column in ("scores", "ref_logps"))
    loss = partial(function, **chosen)
    try:
        check_range("[0, inf)", sft_weight=sft_weight)
        lists = dict.fromkeys(reads, jnp.zeros((1, 2)))
        jax.eval_shape(partial(loss, **lists), jnp.zeros((1, 2)), mask=jnp.ones((1, 2), bool))
    except ValueError as error:
        raise UserError(f"--loss-options: {error}") from error
    return ListLoss(loss, mean_logps if means else sequence_logps, reads, sft_weight)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """PRO or another loss of ranked answers, any number of them to a prompt.

    Data: rows of a prompt and several answers with scores or ranks; see docs/data.md. --batch-size
    counts prompts. Of pairs without scores, use rlhf preference.
    """

    model: Model
    rows: Rows
    loss: str = "pro"
    """pro; plackett_luce, which is PRO without temperatures; rrhf, pl_dpo, lipo or lire."""
    loss_options: dict[str, float] = field(default_factory=dict)
    """Settings of the loss, as names and numbers; sft_weight is the weight of the likelihood of the
    best answer, times (n - 1)^2 for n answers: sft_weight 0.05."""
    longest: int = 8
    """Answers of a row that are learned from, at most: the best, the worst, others between."""
    scores: Literal["range", "sigmoid", "raw"] = "range"
    """What the loss reads of a score: its place between the lowest and the highest of the file, its
    sigmoid (of a reward model's scores), or itself."""
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=5e-6, batch_size=8))
    output: Output

    def __post_init__(self) -> None:
        check_fields(self, "[2, inf)", "longest")


def train_ranking(command: str, options: Ranking) -> None:
    """Trains, measures how well held-out answers are ordered, and writes the model."""
    chosen = named_ranking_loss(options.loss, options.loss_options)
    size, refers = options.optimizer.batch_size, "ref_logps" in chosen.reads

    def make(opened: Opened) -> Training:
        lab, first, merge = start_policy(options.adapter, opened.lab, opened.base)
        records, scale = scored_records(opened.records, options.scores)

        def refer() -> dict[str, np.ndarray]:
            return {"lists": ranking_reference(lab, first, records, batch_size=size)}

        def rows(known: Any) -> Any:
            reference = None if known is None else known["lists"]
            # A loss that reads no scores takes equal ones for an order.
            ties = "scores" in chosen.reads
            given: dict[str, Any] = {"reference": reference, "ties": ties, "scale": scale}
            return ranking_rows(lab, records, batch_size=size, **given)

        return Training(
            lab=lab,
            first=first,
            recipe=partial(ranking, **chosen._asdict()),
            rows=rows,
            quality=partial(ranking_quality, lab, opened.held, chosen, first, batch_size=size),
            reference=refer if refers else None,
            export=merge,
        )

    train_offline(command, options, partial(read_rankings, most=options.longest), make)


def scored_records(records: Sequence[dict], scores: str) -> tuple[list[dict], ScoreRange | None]:
    """The records with the scores that the loss reads, and how they are mapped."""
    rows = [records[i] for i in range(len(records))]
    if scores == "sigmoid":
        rows = [{**x, "scores": [0.5 + 0.5 * np.tanh(0.5 * r) for r in x["scores"]]} for x in rows]
    return rows, score_range(rows) if scores == "range" else None


def ranking_quality(
    lab: LanguageLab,
    records: Sequence[dict],
    chosen: ListLoss,
    ref_params: Params,
    params: Params,
    *,
    batch_size: int,
) -> Numbers:
    """Pairs in the right order, and lists with a best answer on top, by what the loss reads.

    Of the lists with two different scores; {} without any.
    """
    if not records:
        return {}
    rows = [records[i] for i in range(len(records))]
    given: dict[str, Any] = {"batch_size": batch_size, "logps": chosen.logps}

    def values(params: Params) -> np.ndarray:
        found = side_logps(lab, params, flat_answers(rows), ["answer"], **given)["answer"]
        return found.reshape(len(rows), -1)

    found = values(params)
    if "ref_logps" in chosen.reads:
        found = found - values(ref_params)
    scores, kept = (np.array([row[name] for row in rows]) for name in ("scores", "kept"))
    lists = (jnp.asarray(found), jnp.asarray(scores, jnp.float32), jnp.asarray(kept))
    order, weights = (np.asarray(x) for x in ranking_accuracy(*lists))
    decided = weights > 0
    if not decided.any():
        return {}
    top = np.where(kept, found, -np.inf).argmax(axis=1)[:, None]
    best = np.take_along_axis(scores, top, axis=1)[:, 0] == scores[:, 0]
    return {
        "pairs in order": with_interval(order[decided]),
        "best on top": with_interval(best[decided].astype(float)),
    }
