"""rlhf curate: pairs kept, flipped or left out by two reward models and judges."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.layout import narrowed
from rlhf_jax.cli.reward_folders import open_reward
from rlhf_jax.cli.rewards import named_compare
from rlhf_jax.cli.session import new_file
from rlhf_jax.data.curation import curated_pairs
from rlhf_jax.data.formats import read_rows
from rlhf_jax.data.records import Pair
from rlhf_jax.recipes import PairConfidence, curate, lab_confidences
from rlhf_jax.rewards import ComparePairs
from rlhf_jax.training import UserError, reading_input


@dataclass(frozen=True, kw_only=True)
class Curate:
    """Pairs whose labels two reward models confirm, for `rlhf reward` (Skywork-Reward-V2).

    A pair is kept if the model of verified pairs agrees with its label, and the latest one or else
    the judges do; it is turned round if all disagree. Others are left out.
    """

    data: Path
    """Pairs with labels that nobody has verified."""
    gold: Path
    """Folder of a reward model of verified pairs."""
    best: Path
    """Folder of the latest reward model."""
    judge: tuple[str, ...]
    """Judges of the pairs that the latest model doubts, each as of rlhf grpo --judge."""
    samples: int = 1
    """Times that each judge sees a pair, its answers in random order."""
    flip_discarded: bool = False
    """Turn every pair round that is not kept."""
    seed: int = 0
    """Of the order of answers."""
    out: Path
    """File for the pairs, JSON lines."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "samples")
        check_fields(self, "[0, 4294967295]", "seed")


def curate_pairs(command: str, options: Curate) -> None:
    """Asks the models and the judges, prints the counts, and writes the pairs."""
    new_file(options.out)
    gold, best = _confidence(options.gold), _confidence(options.best)
    judges = [_judge(spec) for spec in options.judge]
    with reading_input():
        pool = read_rows(options.data, kind="pairs").records
    found = curate(
        pool,
        gold,
        best,
        judges,
        flip_discarded=options.flip_discarded,
        samples=options.samples,
        seed=options.seed,
    )
    counts = ", ".join(f"{name} {count}" for name, count in found.counts.items())
    print(f"{options.data}: {len(pool)} pairs: {counts}")
    if found.discard.all():
        raise UserError(f"{options.data}: no pair is left: the models and judges confirm none")
    rows = (pair._asdict() for pair in curated_pairs(pool, found))
    kept = [{name: x for name, x in row.items() if x is not None and x != ()} for row in rows]
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    options.out.write_text("".join(lines), encoding="utf-8")
    print(f"{options.out}: {len(kept)} pairs")


def _confidence(folder: Path) -> PairConfidence:
    """How sure a folder's reward model is of each label."""
    lab, params = open_reward(folder)

    def confidence(pairs: Sequence[Pair], /) -> np.ndarray:
        narrow = narrowed(lab, [pair._asdict() for pair in pairs])
        return lab_confidences(narrow, params, pairs)

    return confidence


def _judge(spec: str) -> ComparePairs:
    found = named_compare(spec)
    assert found is not None  # only None names no judge
    return found
