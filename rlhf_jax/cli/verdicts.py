"""Pairwise judges: a language model that says which of two answers is better by one token.

Their folder is that of the language model, with a file VERDICTS beside it that has the two words.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rlhf_jax.cli.data import dialogue_numbers
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.layout import batch_rows, bucketing, narrowed
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.options import Padding, Verdicts
from rlhf_jax.cli.reward_lab import reward_lab
from rlhf_jax.cli.reward_measures import beside_rivals, grouped_mean, hits, pair_quality
from rlhf_jax.data.reward_bench import BenchItem
from rlhf_jax.hf import load_model
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.losses import (
    binary_pairwise_rewards,
    order_bias,
    pairwise_rewards,
    verdict_loss,
    verdict_margins,
    verdict_token_loss,
)
from rlhf_jax.recipes import LanguageLab, pair_rows, verdict_logps, verdict_model, verdicts_of
from rlhf_jax.recipes.buckets import by_length
from rlhf_jax.recipes.rows import Records
from rlhf_jax.recipes.win_rates import bench_pairs, pairwise_scores
from rlhf_jax.rewards import ComparePairs
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params, TextReward, VerdictFn

VERDICTS = "pairwise_reward.json"
ANCHORED: dict[str, Callable[[Array], Array]] = {  # of the margin over the anchor
    "anchor_win": pairwise_rewards,
    "anchor_margin": jax.lax.stop_gradient,
    "anchor_verdict": binary_pairwise_rewards,
}


class PairJudge(NamedTuple):
    """A judge with its params, and the lab that reads texts for it."""

    lab: LanguageLab
    judge: VerdictFn
    params: Params


def verdict_training(
    opened: Opened, options: Verdicts, padding: Padding, *, batch_size: int
) -> Training:
    """A judge from pairs in both orders, on the whole model.

    Raises:
      UserError: a verdict that is no token.
    """
    lab, records, held = opened.lab, opened.records, opened.held
    judge = verdicts_of(lab, options.verdict_tokens)
    layout = bucketing(lab, records, padding, batch_size=batch_size)
    of = partial(PairJudge, lab, judge)
    loss = verdict_loss if options.verdict_norm == "binary" else verdict_token_loss

    def quality(params: Params) -> Numbers:
        return judge_quality(of(params), held, batch_size=batch_size) if held else {}

    def compare(params: Params) -> dict[str, Any]:
        if not held:
            return {}
        margins = judge_margins(of(params), held, batch_size=batch_size)[0]
        return beside_rivals(lab, records, held, margins)

    return Training(
        lab=lab,
        first=opened.base.params,
        recipe=partial(verdict_model, judge=judge, loss=loss, consistency=options.consistency),
        rows=lambda _: pair_rows(lab, records, batch_size=batch_size, **layout),
        quality=quality,
        compare=compare,
        files={VERDICTS: (json.dumps({"verdicts": options.verdict_tokens}) + "\n").encode()},
    )


def judge_margins(
    found: PairJudge, records: Records, *, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """[N] margins of the chosen answers over both orders, and [N] what the order adds."""

    def work(narrow: LanguageLab, part: Sequence[dict]) -> np.ndarray:
        return verdict_logps(narrow, found.judge, found.params, part, batch_size=batch_size)

    logps = jnp.asarray(by_length(work, found.lab, records, batch_size=batch_size))
    return np.asarray(verdict_margins(logps), float), np.asarray(order_bias(logps), float)


def judge_quality(found: PairJudge, records: Records, *, batch_size: int) -> Numbers:
    """Accuracy and calibration over both orders, and what one order is worth."""
    margins, bias = judge_margins(found, records, batch_size=batch_size)
    groups = dialogue_numbers(records)
    numbers = pair_quality(margins, records)
    one_order = 0.5 * (hits(margins + bias) + hits(margins - bias))
    numbers["accuracy, one order"] = grouped_mean(one_order, groups)
    numbers["order decides"] = grouped_mean((np.abs(bias) > np.abs(margins)).astype(float), groups)
    return numbers


def has_verdicts(folder: Path) -> bool:
    """Whether this is the folder of a pairwise judge."""
    return (folder / VERDICTS).is_file()


def read_verdicts(folder: Path) -> tuple[str, str]:
    """The two words.

    Raises:
      UserError: the folder has no pairwise judge, or a damaged file.
    """
    if not has_verdicts(folder):
        raise UserError(
            f"{folder} has no file {VERDICTS}: it is not a pairwise judge, which "
            "rlhf reward --kind pairwise makes"
        )
    try:
        first, second = read_object(folder / VERDICTS)["verdicts"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / VERDICTS} cannot be read: {error}") from error
    return first, second


def open_verdicts(folder: Path) -> PairJudge:
    """A folder of a pairwise judge.

    Raises:
      UserError: the folder has none.
    """
    words = read_verdicts(folder)
    with reading_input():
        found = load_model(folder)
    lab = reward_lab(folder, found, 0)
    return PairJudge(lab, verdicts_of(lab, words), found.params)


def text_margins(
    found: PairJudge, prompts: Sequence[Any], first: Sequence[Any], second: Sequence[Any]
) -> np.ndarray:
    """[N] margins of the first answers over the second ones."""
    # As of a reward model: an empty answer has no token, and a space is as near as texts come.
    sides = ([answer or " " for answer in side] for side in (first, second))
    rows = [
        {"prompt": prompt, "chosen": a, "rejected": b}
        for prompt, a, b in zip(prompts, *sides, strict=True)
    ]
    narrow, size = narrowed(found.lab, rows), batch_rows(rows)
    logps = verdict_logps(narrow, found.judge, found.params, rows, batch_size=size)
    return np.asarray(verdict_margins(jnp.asarray(logps)), float)


def anchor_reward(found: PairJudge, name: str) -> TextReward:
    """How answers compare with the column "answer" of their prompts: a name of ANCHORED."""

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        margins = text_margins(found, prompts, answers, columns["answer"])
        return np.asarray(ANCHORED[name](jnp.asarray(margins))).tolist()

    return score


def judge_compare(found: PairJudge) -> ComparePairs:
    """P(first beats second), in both orders."""

    def compare(
        prompts: Sequence[Any], first: Sequence[str], second: Sequence[str], /
    ) -> list[float | None]:
        margins = text_margins(found, prompts, first, second)
        return [float(win) for win in 0.5 + 0.5 * np.tanh(0.5 * margins)]

    return compare


def bench_scores(
    found: PairJudge, items: Sequence[BenchItem], prompts: Sequence[Any]
) -> list[np.ndarray]:
    """`pairwise_scores` of the answers of each item by the judge."""
    pairs = bench_pairs(items)
    asked = [prompts[number] for number in pairs.items]
    return pairwise_scores(items, text_margins(found, asked, pairs.first, pairs.second))
