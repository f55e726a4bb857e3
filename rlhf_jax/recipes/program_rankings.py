"""Reward programs ranked by people: what their policies say, as rows for `rlhf label`, and back.

write_compared_answers("compare.jsonl", [answers_of(policy) for policy in policies])
# rlhf label --data compare.jsonl --out labels.jsonl
best, worst, queries, shares = ranked_programs("labels.jsonl", answers)
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlhf_jax.data.formats import read_rows

Said = Mapping[str, Sequence[str]]  # prompt -> what a policy answered


class ProgramRanking(NamedTuple):
    """best, worst: places of programs. queries: comparisons that count. shares: [K] of them won."""

    best: int
    worst: int
    queries: int
    shares: np.ndarray


def compared_answers(said: Sequence[Said]) -> list[dict]:
    """One row for each prompt, {"prompt", "answers"}, with the answers of all policies.

    Args:
      said: [K] of each program's policy; prompts that all of them have are compared.
    Raises:
      ValueError: fewer than two policies, or no prompt that all have.
    """
    if len(said) < 2:
        raise ValueError(f"a ranking needs the answers of two policies or more, got {len(said)}")
    shared = [prompt for prompt in said[0] if all(prompt in each for each in said)]
    if not shared:
        raise ValueError("no prompt was answered by every policy: sample the same prompts")
    return [{"prompt": x, "answers": [y for each in said for y in each[x]]} for x in shared]


def write_compared_answers(path: Path | str, said: Sequence[Said]) -> int:
    """Writes `compared_answers` as JSON lines for `rlhf label --data`, and returns their number."""
    rows = compared_answers(said)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    Path(path).write_text("".join(lines))
    return len(rows)


def ranked_programs(path: Path | str, said: Sequence[Said]) -> ProgramRanking:
    """The ranking that a file of judgements gives: programs by their share of won comparisons.

    A win counts for each pair of programs of which one said the better answer and not the worse
    one, the other the reverse. Ratings become pairs.

    Args:
      path: `--out` of `rlhf label`, or any file of pairs or rankings of these answers.
      said: as given to `write_compared_answers`.
    Raises:
      ValueError: the file cannot be read, or a program has no comparison; it names the program.
    """
    wins, losses = np.zeros(len(said)), np.zeros(len(said))
    queries = 0
    for pair in read_rows(path, kind="pairs").records:
        sides = [
            {place for place, each in enumerate(said) if answer in each.get(pair.prompt, ())}
            for answer in (pair.chosen, pair.rejected)
        ]
        winners, losers = sides[0] - sides[1], sides[1] - sides[0]
        if not winners or not losers:
            continue
        queries += 1
        for place in winners:
            wins[place] += 1
        for place in losers:
            losses[place] += 1
    total = wins + losses
    if not total.all():
        raise ValueError(f"{path}: no judgement about program {int(np.argmin(total)) + 1}")
    shares = wins / total
    return ProgramRanking(int(np.argmax(shares)), _last_least(shares), queries, shares)


def _last_least(shares: np.ndarray) -> int:
    """The place of the least share, the last of equal ones, so that it is never the best."""
    return len(shares) - 1 - int(np.argmin(shares[::-1]))
