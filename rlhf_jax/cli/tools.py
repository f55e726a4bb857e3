"""Commands that train nothing: sample, eval, convert."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.data import read_answers, read_pairs, read_prompts, read_steps
from rlhf_jax.cli.measures import Numbers, answer_loss, answer_quality
from rlhf_jax.cli.options import Dtype, Model, Sampling
from rlhf_jax.cli.reward_measures import reward_quality
from rlhf_jax.cli.rewards import narrowed, open_process, open_reward, scored_task
from rlhf_jax.cli.session import open_lab, open_model, sampling_of, shown
from rlhf_jax.cli.steps import read_separator, scored_steps, step_quality
from rlhf_jax.hf import Pretrained, load_model, load_reward, save_model
from rlhf_jax.hf.config import is_reward, read_entries
from rlhf_jax.recipes import (
    LanguageLab,
    Task,
    make_prompts,
    measure,
    overall,
    paired_win_rate,
    text_task,
)
from rlhf_jax.recipes.lab import chunk_of, decode_texts, stage_key, wrapped
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params

BATCH = 16  # rows at a time


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Answers of a model, as JSON lines {"prompt", "answer"} on the screen or in a file."""

    model: Model
    sampling: Sampling = field(default=Sampling())
    prompt: tuple[str, ...] = ()
    """Prompts as they are."""
    prompts: Path | None = None
    """A file of prompts, JSON lines or one a line."""
    samples: int = 1
    """Answers to each prompt."""
    out: Path | None = None
    """A file for the answers."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "samples")


def sample(command: str, options: Sample) -> None:
    """Draws and prints answers."""
    base = open_model(options.model)
    files: list[tuple[Path | str, list[dict]]] = []
    if options.prompt:
        files.append(("--prompt", [{"prompt": text} for text in options.prompt]))
    if options.prompts is not None:
        files.append((options.prompts, read_prompts(options.prompts, base.chat)))
    if not files:
        raise UserError("rlhf sample needs prompts: --prompt TEXT or --prompts FILE")
    if options.out is not None and options.out.exists():
        raise UserError(f"{options.out} exists: choose another --out")
    lab, kept = open_lab(options, base, files, answers=False)
    records = [row for rows in kept for row in rows]
    with nullcontext(sys.stdout) if options.out is None else options.out.open("w") as file:
        for prompt, answer in drawn(lab, base.params, records, options):
            print(json.dumps({"prompt": str(prompt), "answer": answer}), file=file, flush=True)


def drawn(
    lab: LanguageLab, params: Params, records: list[dict], options: Sample
) -> Iterator[tuple[Any, str]]:
    """(prompt, answer), prompt by prompt."""
    prompts = [row["prompt"] for row in records]
    # A task has a held-out prompt at least.
    task = text_task([*prompts, prompts[0]], lambda prompts, answers: {}, objective={}, heldout=1)
    key, numbers = stage_key(lab, "sample"), np.arange(len(prompts))
    size = chunk_of(lab, len(prompts))
    for start in range(0, len(prompts), size):
        asked = make_prompts(lab, task, wrapped(numbers, start, size))
        sampling = sampling_of(lab, options.sampling)
        rollout = lab.draw(params, asked, key, options.samples, sampling=sampling)
        actions = jax.device_get(rollout.trajectory.actions)
        for row, prompt in zip(actions, prompts[start : start + size], strict=False):
            yield from ((prompt, text) for text in decode_texts(lab, row))


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Numbers of a model on held-out data, with 95% intervals.

    A language model: perplexity of the answers in --data; reward, length and variety of its answers
    to --prompts by --reward, and its win rate --against another model. A reward model: accuracy and
    calibration on the pairs, or the steps, in --data.
    """

    model: Model
    data: Path | None = None
    """Answers, or pairs for a reward model."""
    prompts: Path | None = None
    """Prompts to answer."""
    reward: tuple[str, ...] = ()
    """What scores the answers, as of `rlhf grpo`."""
    against: Path | None = None
    """Model that answers the same prompts."""
    total: int = 256
    """Answers in all, about."""
    out: Path | None = None
    """A JSON file for the numbers."""


def evaluate(command: str, options: Evaluate) -> None:
    """Measures and prints."""
    folder = options.model.model
    with reading_input():
        reward = is_reward(read_entries(folder / "config.json"))
    found = _of_reward(options) if reward else _of_policy(options)
    if not found:
        raise UserError("rlhf eval needs --data FILE, or --prompts FILE with --reward")
    for name, value in found.items():
        print(f"{name}: {shown(value)}")
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _of_reward(options: Evaluate) -> Numbers:
    """Accuracy and calibration of a reward model, of answers or of steps."""
    if options.data is None:
        return {}
    if read_separator(options.model.model) is not None:
        lab, params = open_process(options.model.model)
        records = read_steps(options.data, lab.chat)
        narrow = narrowed(lab, records)
        return step_quality(scored_steps(narrow, params, records, batch_size=BATCH))
    lab, params = open_reward(options.model.model)
    records = read_pairs(options.data, lab.chat)
    return reward_quality(narrowed(lab, records), records, params, batch_size=BATCH)


def _of_policy(options: Evaluate) -> Numbers:
    """Perplexity of a language model, rewards of its answers, and win rates."""
    base = open_model(options.model)
    found: Numbers = {}
    if options.data is not None:
        records = read_answers(options.data, base.chat)
        lab, (records,) = open_lab(options, base, [(options.data, records)])
        found |= answer_loss(lab, records, base.params, batch_size=BATCH)
    if options.prompts is None or not options.reward:
        return found
    records = read_prompts(options.prompts, base.chat)
    lab, (records,) = open_lab(options, base, [(options.prompts, records)], answers=False)
    task = scored_task(options.reward, records, heldout=0.0)
    indices = np.arange(len(records))[: options.total]
    measure_answers = partial(answer_quality, task=task, indices=indices, total=options.total)
    found |= measure_answers(lab, ref_params=base.params, params=base.params)
    if options.against is not None:
        other = open_model(replace(options.model, model=options.against))
        found |= {"win rate": win_rate(task, indices, options, (base, other), records)}
    return found


def win_rate(
    task: Task,
    indices: np.ndarray,
    options: Evaluate,
    models: Sequence[Pretrained],
    records: Sequence[dict],
) -> list[float]:
    """How often the first model's answer has the higher reward, ties at one half."""
    samples, scores = max(1, round(options.total / len(indices))), []
    for model in models:
        lab, _ = open_lab(options, model, [("--prompts", records)], answers=False)
        key = stage_key(lab, "evaluation")
        given = (lab, task, model.params, model.params, indices, key)
        scores.append(
            overall(task, measure(*given, samples=samples, chunk=chunk_of(lab, len(indices))).named)
        )
    return [float(x) for x in paired_win_rate(*scores)]


@dataclass(frozen=True, kw_only=True)
class Convert:
    """A model folder written anew: in another precision, in files of another size."""

    model: Path
    """Hugging Face folder of a language model or a reward model."""
    out: Path
    """New folder."""
    dtype: Dtype = "float32"
    """Of the weights."""
    shard_gigabytes: float = 5.0
    """Largest file of weights."""

    def __post_init__(self) -> None:
        check_fields(self, "(0, inf)", "shard_gigabytes")


def convert(command: str, options: Convert) -> None:
    """Reads and writes."""
    with reading_input():
        reward = is_reward(read_entries(options.model / "config.json"))
        load = load_reward if reward else load_model
        found = load(options.model, dtype=options.dtype, param_dtype=options.dtype)
        save_model(options.out, found, shard_bytes=int(options.shard_gigabytes * 1e9))
    print(f"model: {options.out}")
