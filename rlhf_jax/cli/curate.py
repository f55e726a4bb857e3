"""rlhf curate: pairs kept, flipped or dropped by two reward models and judges."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.data import dialogue_numbers, pair_key, read_pairs, text_of
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.reward_measures import grouped_mean, hits
from rlhf_jax.cli.rewards import named_compare, named_reward
from rlhf_jax.cli.session import new_file, shown
from rlhf_jax.data.curation import curated_pairs, pair_confidences
from rlhf_jax.data.records import Pair
from rlhf_jax.hf.vocabulary import read_chat_template
from rlhf_jax.recipes import PairConfidence, judge_labels, relabel_doubted
from rlhf_jax.recipes import curate as curate_pool
from rlhf_jax.reports.claims import write_text
from rlhf_jax.rewards import ComparePairs
from rlhf_jax.training import UserError, reading_input

MEASURED = 256  # verified pairs that are judged


@dataclass(frozen=True, kw_only=True)
class Curate:
    """Pairs with doubtful labels, kept, flipped or dropped, as of Skywork-Reward-V2.

    A pair is kept if --gold agrees with its label, and --best or the judges do; it is flipped if
    all three disagree, and dropped otherwise. Without --gold, what --best agrees with is kept, and
    the judges label the others anew. Judges are asked only where --best doubts a label.
    """

    data: Path
    """Pairs."""
    out: Path
    """File of the pairs that are left, JSON lines."""
    best: str
    """The latest reward model: a folder, or any reward of whole answers, as of rlhf grpo."""
    gold: str | None = None
    """A reward model trained on verified pairs alone, likewise."""
    judge: tuple[str, ...] = ()
    """Judges of two answers, as of rlhf selfplay: the majority counts."""
    judgements: int = 1
    """Of each judge about a pair, each in a random order of the answers."""
    verified: Path | None = None
    """Pairs whose labels people have verified. They come first in OUT, as they are and in place of
    the same pairs of --data, and --best and the judges are measured on them."""
    flip_discarded: bool = False
    """Flip all pairs that are not kept."""
    seed: int = 0
    """Of the orders."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "judgements")
        check_fields(self, "[0, 4294967295]", "seed")
        if self.flip_discarded and self.gold is None:
            raise ValueError("--flip-discarded needs --gold: without it the judges decide")


def curate(command: str, options: Curate) -> None:
    """Curates, prints the counts and writes what is left."""
    new_file(options.out)
    if not options.judge:
        raise UserError("rlhf curate needs a judge: give --judge")
    judges = [text_judge(spec) for spec in options.judge]
    best = reward_confidence("--best", options.best)
    gold = None if options.gold is None else reward_confidence("--gold", options.gold)
    verified = [] if options.verified is None else read_pool(options.verified, options.best)
    pool = read_pool(options.data, options.best)
    known = {pair_key(pair._asdict()) for pair in verified}
    doubted = [pair for pair in pool if pair_key(pair._asdict()) not in known]
    if not doubted:
        raise UserError(f"all {len(pool)} pairs of {options.data} are verified: nothing to curate")
    asking: dict[str, Any] = {"samples": options.judgements, "seed": options.seed}
    if verified:
        for name, value in verified_quality(verified[:MEASURED], best, judges, asking).items():
            print(f"verified pairs: {name}: {shown(value)}")
        print(f"pairs of {options.data} that are verified: {len(pool) - len(doubted)}")
    if gold is None:
        found = relabel_doubted(doubted, best, judges, **asking)
    else:
        flip = options.flip_discarded
        found = curate_pool(doubted, gold, best, judges, flip_discarded=flip, **asking)
    print(", ".join(f"{name} {count}" for name, count in found.counts.items()))
    rows = [*verified, *curated_pairs(doubted, found)]
    if not rows:
        raise UserError(f"none of the {len(pool)} pairs is left: nothing is written")
    write_text(options.out, "".join(map(_line, rows)))
    print(f"{options.out}: {len(rows)} pairs")


def read_pool(path: Path, best: str) -> list[Pair]:
    """The pairs of a file, of messages if the folder of --best has a template for them."""
    with reading_input():
        chat = read_chat_template(Path(best)) if Path(best).is_dir() else None
    return [Pair(**row) for row in read_pairs(path, chat)]


def reward_confidence(option: str, spec: str) -> PairConfidence:
    """sigmoid(s_w - s_l) of a reward, 1/2 where it has no score for an answer; a line counts these.

    Raises:
      UserError: a reward that cannot be made, or that reads a column.
    """
    weight, _, reward, column = named_reward(spec)
    if column is not None:
        raise UserError(f"{option} {spec} reads the field {column!r}, which pairs lack")

    def confidences(pairs: Sequence[Pair], /) -> np.ndarray:
        prompts = [pair.prompt for pair in pairs]
        sides = ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
        found = [reward(prompts, list(map(text_of, side))) for side in sides]
        scores = weight * np.array(found, float)  # None becomes NaN
        known = np.isfinite(scores).all(0)
        agreed = pair_confidences(*np.where(known, scores, 0.0))
        without = f"; no score for {(~known).sum()}" if not known.all() else ""
        print(
            f"{option} agrees with {hits(agreed - 0.5).mean():.3f} of {len(pairs)} pairs{without}"
        )
        return agreed

    return confidences


def text_judge(spec: str) -> ComparePairs:
    """The judge of a name, which reads the texts of answers that are messages.

    Raises:
      UserError: a judge that cannot be made.
    """
    compare = named_compare(spec)
    assert compare is not None

    def judge(
        prompts: Sequence[Any], first: Sequence[Any], second: Sequence[Any], /
    ) -> list[float | None]:
        return compare(prompts, *([text_of(x) for x in side] for side in (first, second)))

    return judge


def verified_quality(
    pairs: Sequence[Pair], best: PairConfidence, judges: Sequence[ComparePairs], asking: Any
) -> Numbers:
    """Accuracy on pairs with known labels; of the judges where they have a majority."""
    groups = dialogue_numbers([pair._asdict() for pair in pairs])
    labels = judge_labels(pairs, judges, **asking)
    found: Numbers = {"accuracy of --best": grouped_mean(hits(best(pairs) - 0.5), groups)}
    if (known := np.isfinite(labels)).any():
        found["accuracy of the judges"] = grouped_mean(labels[known], groups[known])
    return found | {"without a majority of the judges": float((~known).mean())}


def _line(pair: Pair) -> str:
    said = {name: value for name, value in pair._asdict().items() if value not in (None, ())}
    return json.dumps(said, ensure_ascii=False) + "\n"
