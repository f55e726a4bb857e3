"""Generative judges: trained on pairs, measured on pairs, and as a --judge of other commands."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlhf_jax.cli.data import dialogue_numbers, read_pairs, text_of
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.measures import Numbers, bench_quality
from rlhf_jax.cli.options import Judging, Model
from rlhf_jax.cli.reward_measures import grouped_mean
from rlhf_jax.cli.session import open_lab, open_model, vocabulary_of
from rlhf_jax.data.messages import as_user
from rlhf_jax.data.reward_bench import BenchItem, is_bench, read_bench
from rlhf_jax.hf import Pretrained
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.ops.verdicts import verdict_credits
from rlhf_jax.recipes import (
    LanguageLab,
    answer_rows,
    generative_judge,
    judge_records,
    make_lab,
    sample_traces,
    supervised,
    trace_records,
)
from rlhf_jax.recipes.rows import Records, Rows
from rlhf_jax.recipes.win_rates import bench_pairs, pairwise_scores
from rlhf_jax.rewards import QUESTIONS, ComparePairs, VerdictScale, verdicts_in
from rlhf_jax.rewards.verdicts import JudgeQuestion, asked_text, label_value
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params

PROMPTS = "judge_prompts.jsonl"  # beside the model: its questions with labels, for RL by the rule
LENGTHS = "reward_lengths.json"  # beside it too, as of every reward
LONGEST = 1024  # tokens of a question and of a judgement, where the folder does not say
MEASURED = 256  # held-out pairs that are judged


def judge_training(opened: Opened, options: Any) -> Training:
    """Supervised fine-tuning on the model's own right judgements of the training pairs.

    Args:
      options: of `rlhf reward`. --prompt-length and --answer-length are those of a question, with
        both answers, and of a judgement.
    """
    judging: Judging = options.judging
    question, chat = QUESTIONS[judging.verdicts], opened.lab.chat is not None
    asked = [
        judge_records(_all(records), question, seed=options.model.seed, as_messages=chat)
        for records in (opened.records, opened.held)
    ]
    names = ("the training pairs", "the held-out pairs")
    files = [
        (f"questions about {name}", rows) for name, rows in zip(names, asked, strict=True) if rows
    ]
    lab, kept = open_lab(options, opened.base, files, answers=False)
    train, held = kept[0], kept[1] if len(kept) > 1 else []
    scale, size = question.scale, options.optimizer.batch_size

    def traced() -> dict[str, np.ndarray]:
        traces = sample_traces(lab, opened.base.params, train, samples=judging.judgements)
        rows, found = trace_records(
            train, traces, scale, keep=judging.keep_judgement, seed=lab.seed
        )
        counts = ", ".join(f"{name} {count}" for name, count in found.counts.items())
        print(f"judgements: {counts}")
        # A stage keeps arrays: the texts as bytes.
        return {"rows": np.frombuffer(json.dumps(rows).encode(), np.uint8)}

    def rows(known: Any) -> Rows:
        return answer_rows(lab, json.loads(bytes(known["rows"])), batch_size=size)

    lines = (json.dumps(row) + "\n" for row in train)
    return Training(
        lab=lab,
        first=opened.base.params,
        recipe=supervised,
        rows=rows,
        quality=lambda params: judge_quality(lab, params, held[:MEASURED], scale),
        reference=traced,
        files={PROMPTS: "".join(lines).encode()},
        total=len(train),
    )


def judge_quality(
    lab: LanguageLab, params: Params, rows: Sequence[dict], scale: VerdictScale
) -> Numbers:
    """Accuracy of one judgement of each question, and how many have a verdict."""
    if not rows:
        return {}
    texts = [one for (one,) in sample_traces(lab, params, rows, samples=1)]
    verdicts = jnp.asarray(verdicts_in(texts, scale), jnp.float32)
    labels = jnp.array([label_value(row["label"], scale) for row in rows])
    groups = np.arange(len(rows))
    found = {
        f"accuracy, {name}": grouped_mean(
            np.asarray(verdict_credits(verdicts, labels, unread=credit), float), groups
        )
        for name, credit in (("strict", 0.0), ("flexible", 0.5))
    }
    lengths = np.array([len(text) for text in texts], float)
    return found | {
        "without a verdict": grouped_mean(np.isnan(verdicts).astype(float), groups),
        "characters of a judgement": grouped_mean(lengths, groups),
    }


def pairs_quality(options: Any, verdicts: str) -> Numbers:
    """A judge's numbers on the pairs in --data: one judgement of each, and both orders together.

    In both orders a pair counts one half if they disagree, or if neither has a verdict. Of a file
    of RewardBench `judge_bench`.
    """
    base, question = open_model(options.model), QUESTIONS[verdicts]
    with reading_input():
        items = read_bench(options.data) if is_bench(options.data) else None
    if items is not None:
        return judge_bench(options, base, question, items)
    pairs = _all(read_pairs(options.data, base.chat))
    chat = base.chat is not None
    asked = judge_records(pairs, question, seed=options.model.seed, as_messages=chat)
    lab, (rows,) = open_lab(options, base, [(options.data, asked)], answers=False)
    found = judge_quality(lab, base.params, rows, question.scale)
    sides = ([text_of(pair[side]) for pair in pairs] for side in ("chosen", "rejected"))
    prefs = generative_judge(lab, base.params, question)([x["prompt"] for x in pairs], *sides)
    credit = np.array([0.5 if p is None or p == 0.5 else float(p > 0.5) for p in prefs])
    return found | {"accuracy, both orders": grouped_mean(credit, dialogue_numbers(pairs))}


def judge_bench(
    options: Any, base: Pretrained, question: JudgeQuestion, items: Sequence[BenchItem]
) -> Numbers:
    """A judge's score on each subset of a benchmark; it sees every two answers in both orders.

    Two answers tie where the orders disagree, or neither has a verdict.
    """
    pairs = bench_pairs(items)
    prompts = [items[number].prompt for number in pairs.items]
    sides = (pairs.first, pairs.second)
    texts = [
        asked_text(question, *row)
        for order in (sides, sides[::-1])
        for row in zip(prompts, *order, strict=True)
    ]
    asked = [{"prompt": text if base.chat is None else list(as_user(text))} for text in texts]
    lab, _ = open_lab(options, base, [(options.data, asked)], answers=False)
    counts: Counter[str] = Counter()
    prefs = generative_judge(lab, base.params, question, counts=counts)(prompts, *sides)
    # Rounded: thirds of graded verdicts would break ties.
    margins = np.array([0.0 if p is None else round(2.0 * p - 1.0, 9) for p in prefs])
    unread = counts["unread"] / counts["judgements"]
    with reading_input():
        found = bench_quality(items, pairwise_scores(items, margins))
    return found | {"without a verdict": unread}


@lru_cache(maxsize=1)
def folder_judge(spec: str) -> ComparePairs | None:
    """The judge of `binary:FOLDER` or `graded:FOLDER`; None for a spec that is neither.

    Raises:
      UserError: the folder has no language model.
    """
    kind, _, rest = spec.partition(":")
    if kind not in QUESTIONS:
        return None
    if not Path(rest).is_dir():
        raise UserError(f"--judge {spec}: expected {kind}:FOLDER of a language model")
    options = Model(model=Path(rest), prompt_length=LONGEST, answer_length=LONGEST)
    base = open_model(options)
    lab = make_lab(
        base.config,
        vocabulary_of(base),
        prompt_length=LONGEST,
        answer_length=judgement_length(Path(rest)),
        chat=base.chat,
    )
    return generative_judge(lab, base.params, QUESTIONS[kind])


def judgement_length(folder: Path) -> int:
    """Tokens of a judgement: those it was trained to write, or LONGEST."""
    return int(read_object(folder / LENGTHS).get("answer_length", LONGEST))


def _all(records: Records) -> list[dict]:
    """In memory, because questions are."""
    return [records[i] for i in range(len(records))]
