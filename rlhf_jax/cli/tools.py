"""Commands that train nothing: sample, convert."""

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.data import read_prompts
from rlhf_jax.cli.options import Dtype, Model, Sampling
from rlhf_jax.cli.session import new_file, open_lab, open_model, sampling_of
from rlhf_jax.hf import load_any, save_model
from rlhf_jax.recipes import (
    LanguageLab,
    improve,
    make_prompts,
    reference_records,
    stopped_lab,
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
    improve: int = 0
    """Rounds of improving the field answer of --prompts, by a model of --improve (PIT): each answer
    of the last round. 0 answers the prompts."""
    out: Path | None = None
    """A file for the answers."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "samples")
        check_fields(self, "[0, inf)", "improve")
        if self.improve and (self.prompt or self.samples != 1):
            raise ValueError(
                "--improve is of the answers in --prompts, one each: leave out "
                "--prompt and --samples"
            )


def sample(command: str, options: Sample) -> None:
    """Draws and prints answers."""
    new_file(options.out)
    base = open_model(options.model)
    files: list[tuple[Path | str, list[dict]]] = []
    if options.prompt:
        files.append(("--prompt", [{"prompt": text} for text in options.prompt]))
    if options.prompts is not None:
        files.append((options.prompts, read_prompts(options.prompts, base.chat)))
    if not files:
        raise UserError("rlhf sample needs prompts: --prompt TEXT or --prompts FILE")
    lab, kept = open_lab(options, base, files, answers=False)
    lab = stopped_lab(lab, options.sampling.stop)
    records = [row for rows in kept for row in rows]
    draw = improved if options.improve else drawn
    with nullcontext(sys.stdout) if options.out is None else options.out.open("w") as file:
        for prompt, answer in draw(lab, base.params, records, options):
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


def improved(
    lab: LanguageLab, params: Params, records: list[dict], options: Sample
) -> Iterator[tuple[Any, str]]:
    """(prompt, answer) after the rounds of `--improve`; a note counts answers that had to stay.

    Raises:
      UserError: a prompt without an answer to improve.
    """
    rows = reference_records(records, ["answer"])
    wide = lab._replace(prompt_length=options.model.prompt_length)
    sampling, key = sampling_of(lab, options.sampling), stage_key(lab, "improve")
    prompts, answers = ([row[name] for row in rows] for name in ("prompt", "reference"))
    found = improve(wide, params, prompts, answers, key, rounds=options.improve, sampling=sampling)
    for number, count in enumerate(found.kept, start=1):
        if count:
            print(
                f"note: round {number}: {count} answers are too long to be shown, and stay",
                file=sys.stderr,
            )
    yield from zip(prompts, found.texts[-1], strict=True)


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
        found = load_any(options.model, dtype=options.dtype, param_dtype=options.dtype)
        save_model(options.out, found, shard_bytes=int(options.shard_gigabytes * 1e9))
    print(f"model: {options.out}")
