"""Completions as a table: `stages/<stage>/completions.jsonl` in a run's folder.

A row is `{"step", "prompt_index", "prompt", "answer", "score", "scores"}`: the number of updates
done with it, as in metrics.jsonl; the score that was maximised, and every named one; null where
there is none. An answer to a task with a step is a whole episode. The file of a resumed run is byte
for byte that of an uninterrupted one.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlhf_jax.checks import check_range
from rlhf_jax.recipes.episodes import transcript_texts, transcripts
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.rounds import Drawn
from rlhf_jax.recipes.task import Scores, Task
from rlhf_jax.sharding import on_host
from rlhf_jax.training import ResultsError, Stage
from rlhf_jax.training.errors import naming_full_disk
from rlhf_jax.training.processes import process


def make_table(
    stage: Stage, lab: LanguageLab, task: Task, *, every: int
) -> Callable[[int, Drawn, Any], None]:
    """`write(i, drawn, scores [B, K])`, to be called at step i = 0, every, 2 every, ..."""
    append = make_append(stage, every=every)

    def write(i: int, drawn: Drawn, scores: Any) -> None:
        answers = transcript_texts(lab, on_host(transcripts(drawn.rollout, drawn.turns)))
        indices = np.asarray(drawn.prompts.indices)
        prompts = list(zip(indices.tolist(), task.texts(indices), strict=True))
        append(i, _drawn_rows(prompts, answers, on_host(scores), drawn.named))

    return write


class CompletionRow(NamedTuple):
    """A row of the table but its step."""

    prompt_index: int
    prompt: Any
    answer: str
    score: float | None
    scores: dict[str, float | None]


def make_append(stage: Stage, *, every: int) -> Callable[[int, Iterable[CompletionRow]], None]:
    """`append(i, rows)`, to be called at step i = 0, every, 2 every, ...

    The first call of a session cuts what an earlier one wrote beyond its last checkpoint.
    """
    check_range("[1, inf)", every=every)
    if process() != 0:
        return lambda i, rows: None
    path = stage.run.out / "stages" / stage.name / "completions.jsonl"
    begun = False

    def append(i: int, rows: Iterable[CompletionRow]) -> None:
        nonlocal begun
        if not begun:
            _cut_table(path, done=i, every=every)
        begun = True
        with naming_full_disk(path.parent), path.open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps({"step": i + 1} | row._asdict(), allow_nan=False) + "\n")

    return append


def _cut_table(path: Path, *, done: int, every: int) -> None:
    """Cuts what lies beyond `done` updates, half a line of a killed process included.

    Raises:
      ResultsError: rows of an earlier step are missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    length, found = 0, set()
    with path.open("rb") as file:
        for line in file:
            step = _step_of(line)
            if step is None or step > done:
                break
            length += len(line)
            found.add(step)
    if missing := set(range(1, done + 1, every)) - found:
        raise ResultsError(
            f"{path} lacks the completions of step {min(missing)}: restore the file, or delete the "
            f"checkpoints in {path.parent} to do this stage again"
        )
    os.truncate(path, length)


def _drawn_rows(
    prompts: Sequence[tuple[int, Any]], answers: Sequence[str], scores: np.ndarray, named: Scores
) -> Iterable[CompletionRow]:
    """K answers to each of B prompts, in order.

    Args:
      prompts: number and text of each. answers: B K texts. scores: [B, K], NaN for none.
      named: name -> [B, K].
    """
    for place, answer in enumerate(answers):
        b, k = divmod(place, scores.shape[1])
        known = {name: _number(each[b, k]) for name, each in named.items()}
        yield CompletionRow(*prompts[b], answer, _number(scores[b, k]), known)


def read_completions(stage_folder: Path) -> list[dict[str, Any]]:
    """The rows of a stage's table."""
    with open(stage_folder / "completions.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _step_of(line: bytes) -> int | None:
    """The step of a whole row, None of half a row."""
    try:
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None


def _number(x: Any) -> float | None:
    """Shortest decimal form of float32, null for what is not finite."""
    return float(str(x)) if math.isfinite(x) else None
