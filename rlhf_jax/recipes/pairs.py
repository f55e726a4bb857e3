"""Pairs of a policy's own answers, labelled by the task's teacher, as records on disk."""

from pathlib import Path
from typing import Any

import numpy as np

from rlhf_jax.recipes.lab import CHUNK, LanguageLab, decode_texts, make_prompts, stage_key, wrapped
from rlhf_jax.recipes.rows import Records
from rlhf_jax.recipes.task import Task, check_single_turn
from rlhf_jax.recipes.tokens import text_prompt
from rlhf_jax.sharding import on_host
from rlhf_jax.training import Run, UserError, check_stop, progress_bar, tree_digest
from rlhf_jax.types import Params


def sample_pairs(
    run: Run,
    lab: LanguageLab,
    task: Task,
    params: Params,
    indices: np.ndarray,
    *,
    name: str,
    split: str,
    facts: dict[str, Any],
    remedy: str,
) -> Records:
    """Two answers of the policy to each prompt, the one that the teacher prefers chosen.

    Pairs that the teacher does not keep and empty answers are left out. A prompt that stands in
    `indices` several times gets as many different pairs. The records are "prompt" (messages as JSON
    in "prompt_json"), "chosen", "rejected" and the teacher's columns; the same policy, prompts and
    facts are sampled once, and then read from the run's folder.

    Args:
      name, split: of the data set under `run.out / "data"`.
      facts: JSON values that the teacher depends on.
      remedy: which option to change if no pair is left.
    Raises:
      UserError: the task has no teacher, or no pair is left.
    """
    check_single_turn(task, "sample_pairs")
    if task.teacher is None:
        raise UserError(f"{name}: the task has no teacher to label pairs: give it one")
    first, second = _draw_two(run, lab, task, params, indices, name=name, split=split)
    labels = task.teacher(stage_key(lab, f"{name} labels"), indices, first, second)
    prompts = task.texts(indices)
    rows = []
    for i, answers in enumerate(zip(first, second, strict=True)):
        if not (labels.kept[i] and all(answers)):
            continue
        winner = int(labels.winners[i])
        row = {"chosen": answers[winner], "rejected": answers[1 - winner]}
        row |= text_prompt(prompts[i])
        rows.append(row | {key: float(values[i]) for key, values in labels.columns.items()})
    if not rows:
        raise UserError(
            f"pairs: none of the {len(indices)} {split} pairs is left: in each an answer is empty, "
            f"or the teacher has no preference; {remedy}"
        )
    store = _store()
    texts = (*text_prompt(prompts[0]), "chosen", "rejected")
    fields = dict.fromkeys(texts, store.Field("text"))
    fields |= dict.fromkeys(labels.columns, store.Field("float32"))
    known = {"seed": lab.seed, "prompts": len(indices), "policy": tree_digest(params), **facts}
    store.build(name, {split: rows}, fields=fields, data_dir=run.out / "data", config=known)
    return open_pairs(run.out / "data", name, split)


def open_pairs(folder: Path, name: str, split: str) -> Records:
    """The records that `sample_pairs` wrote."""
    return _store().open_source(folder, name, split)


def _store() -> Any:
    """`data.store`, imported here because TFDS is slow to import, and few recipes need it."""
    from rlhf_jax.data import store

    return store


def _draw_two(
    run: Run,
    lab: LanguageLab,
    task: Task,
    params: Params,
    indices: np.ndarray,
    *,
    name: str,
    split: str,
) -> tuple[list[str], list[str]]:
    """Texts of two answers to each prompt, `CHUNK` prompts at a time.

    A prompt that is given again gets its next two answers, not the same ones.
    """
    key, sides = stage_key(lab, name), ([], [])
    before = 2 * times_before(indices)
    with progress_bar(f"{split} pairs", len(indices), show=run.progress) as advance:
        for start in range(0, len(indices), CHUNK):
            check_stop(run, f"sampling {split} pairs")
            prompts = make_prompts(lab, task, wrapped(indices, start, CHUNK))
            first = wrapped(before, start, CHUNK)[:, None]
            actions = on_host(lab.draw(params, prompts, key, 2, first).trajectory.actions)
            for k, side in enumerate(sides):
                side += decode_texts(lab, actions[:, k])
            advance(start + CHUNK)
    first, second = (side[: len(indices)] for side in sides)
    return first, second


def times_before(indices: np.ndarray) -> np.ndarray:
    """[N] how often the same number stands before each place."""
    counts: dict[int, int] = {}
    found = []
    for i in np.asarray(indices).tolist():
        found.append(counts.get(i, 0))
        counts[i] = found[-1] + 1
    return np.array(found, np.int64)
