"""One teacher, one set of answers, labels in every form: pairs, rankings, good and bad answers.

Every answer of SFT gets a noisy utility once, its objective plus Gumbel noise / teacher_beta. What
the teacher prefers of two answers then follows Bradley-Terry, and the order of four Plackett-Luce,
which is three choices. All forms are read from the same utilities.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.shop_methods.config import Data
from experiments.shop_methods.world import Tools
from rlhf_jax.recipes import LanguageLab, measure, stage_key
from rlhf_jax.recipes.task import overall
from rlhf_jax.training import Stage, UserError

ANSWERS = 4
MATCHINGS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))
CHOICES = ANSWERS - 1  # in a ranking


class Answers(NamedTuple):
    """N prompts with four answers each. prompts, texts: of them. gold, noisy: [N, 4] objective and
    noisy utility."""

    prompts: Sequence[Any]
    texts: Sequence[Sequence[str]]
    gold: np.ndarray
    noisy: np.ndarray


def draw_answers(
    tools: Tools, lab: LanguageLab, split: str, first: int, count: int
) -> dict[str, Any]:
    """Four answers of SFT to `count` prompts of a split from number `first`, as JSON values."""
    numbers = np.array(tools.task.splits[split])
    numbers = numbers[first : first + count] if first < len(numbers) else numbers[:count]
    key = stage_key(lab, f"labels {split}")
    found = measure(lab, tools.task, tools.start, tools.start, numbers, key, samples=ANSWERS)
    gold = overall(tools.task, found.named)
    noise = np.asarray(jax.random.gumbel(stage_key(lab, "teacher"), gold.shape))
    noisy = gold + noise / tools.config.data.teacher_beta
    return {
        "prompts": list(tools.task.texts(numbers)),
        "texts": found.texts,
        "gold": gold.tolist(),
        "noisy": noisy.tolist(),
    }


def labelled(stage: Stage, tools: Tools, lab: LanguageLab, seed: int) -> tuple[Any, dict]:
    """The answers of a seed; seeds have prompts of their own where there are enough."""
    count = tools.config.data.prompts
    return {}, draw_answers(tools, lab, "pairs", count * seed, count)


def answers_of(info: dict[str, Any]) -> Answers:
    """What a stage has kept."""
    return Answers(info["prompts"], info["texts"], np.array(info["gold"]), np.array(info["noisy"]))


def pairs_of(found: Answers, data: Data) -> list[dict[str, Any]]:
    """Pairs that the teacher tells apart, disjoint within a prompt, the preferred answer chosen.

    "prob" is how often the teacher would choose it again. Of the three ways to pair four answers it
    is the first with the most such pairs.
    """
    rows = []
    for prompt, texts, gold, noisy in zip(*found, strict=True):
        told = [
            [
                (i, j)
                for i, j in matching
                if abs(gold[i] - gold[j]) > data.tie_gap and texts[i] and texts[j]
            ]
            for matching in MATCHINGS
        ]
        for i, j in max(told, key=len):
            best, worst = (i, j) if noisy[i] >= noisy[j] else (j, i)
            gap = data.teacher_beta * (gold[best] - gold[worst])
            row = {"prompt": prompt, "chosen": texts[best], "rejected": texts[worst]}
            golds = {"gold_chosen": float(gold[best]), "gold_rejected": float(gold[worst])}
            rows.append(row | golds | {"prob": float(1.0 / (1.0 + np.exp(-gap)))})
    return rows


def rankings_of(found: Answers, data: Data) -> list[dict[str, Any]]:
    """Rankings of four answers of which the teacher tells two apart; a score is minus the rank."""
    rows = []
    for prompt, texts, gold, noisy in zip(*found, strict=True):
        if gold.max() - gold.min() > data.tie_gap and all(texts):
            ranks = np.argsort(np.argsort(-noisy))
            rows.append(
                {
                    "prompt": prompt,
                    "answers": list(texts),
                    "scores": (-ranks).astype(float).tolist(),
                }
            )
    return rows


def marked(pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of pairs one by one, a chosen one good and a rejected one bad."""
    return [
        {"prompt": row["prompt"], "answer": row[side], "label": side == "chosen"}
        for row in pairs
        for side in ("chosen", "rejected")
    ]


def first_labels(rows: list[dict[str, Any]], count: int, name: str) -> list[dict[str, Any]]:
    """The first `count` records; `name` says of what.

    Raises:
      UserError: fewer than two.
    """
    if len(rows) < 2:
        raise UserError(
            f"{name}: the teacher tells {len(rows)} apart: lower data.tie_gap, or raise "
            "data.prompts and data.heldout"
        )
    return rows[:count]
