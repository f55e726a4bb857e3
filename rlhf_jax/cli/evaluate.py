"""`rlhf eval`: numbers of a model on held-out data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlhf_jax.cli.benches import (
    all_scores,
    bench_by_model,
    bench_numbers,
    bench_prompts,
    is_bench_file,
)
from rlhf_jax.cli.corrections import correction_quality, has_corrections, open_corrections
from rlhf_jax.cli.data import (
    read_answers,
    read_labelled,
    read_marked,
    read_pairs,
    read_prompts,
    read_steps,
)
from rlhf_jax.cli.ensembles import annotator_quality, read_annotators, with_heads
from rlhf_jax.cli.entailment import open_entailment, record_odds
from rlhf_jax.cli.exclusions import check_eval
from rlhf_jax.cli.features import (
    feature_quality,
    feature_reward,
    has_features,
    open_rater,
    rate_records,
    read_feature_model,
)
from rlhf_jax.cli.filter_choice import TRUTH, filter_choice
from rlhf_jax.cli.gaps import gap_quality, gap_table, has_gaps, open_gaps
from rlhf_jax.cli.judging import pairs_quality
from rlhf_jax.cli.layout import narrowed
from rlhf_jax.cli.measures import (
    Numbers,
    answer_loss,
    answer_quality,
    bench_quality,
    calibration,
    win_quality,
)
from rlhf_jax.cli.mixtures import has_mixture, mixture_quality
from rlhf_jax.cli.new_users import asked_users
from rlhf_jax.cli.options import Model
from rlhf_jax.cli.principles import (
    Principles,
    head_odds,
    principle_quality,
    read_principles,
    told_reward,
)
from rlhf_jax.cli.ratings import has_ratings, rating_quality, read_ratings
from rlhf_jax.cli.reward_folders import (
    open_mixture,
    open_process,
    open_ratings,
    open_reward,
    open_segments,
    open_users,
    principle_scores,
    text_scores,
)
from rlhf_jax.cli.reward_measures import reward_quality
from rlhf_jax.cli.rewards import named_compare, named_reward, scored_task
from rlhf_jax.cli.segments import has_segments, segment_quality
from rlhf_jax.cli.session import new_file, open_lab, open_model, shown
from rlhf_jax.cli.steps import read_separator, scored_steps, step_quality
from rlhf_jax.cli.users import has_users, user_quality
from rlhf_jax.cli.verdicts import bench_scores, has_verdicts, judge_quality, open_verdicts
from rlhf_jax.data.reward_bench import is_bench, read_bench
from rlhf_jax.hf import Pretrained
from rlhf_jax.hf.config import is_reward, read_entries
from rlhf_jax.hf.vocabulary import read_chat_template
from rlhf_jax.recipes import Task, measure
from rlhf_jax.recipes.corrections import map_losses
from rlhf_jax.recipes.evaluation import Measured
from rlhf_jax.recipes.lab import chunk_of, stage_key
from rlhf_jax.recipes.users import embedded_pairs
from rlhf_jax.training import UserError, reading_input

BATCH = 16  # rows at a time


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Numbers of a model on held-out data, with 95% intervals.

    A language model: perplexity of the answers in --data; reward, length and variety of its answers
    to --prompts by --reward, and its win rate --against another model, by --judge or --reward, also
    at equal lengths. A reward model: accuracy and calibration on the pairs, steps, spans or answers
    with a principle in --data; on a file of RewardBench its score on each subset, by --reward if
    that is given. With --verdicts, a language model is measured as a judge of the pairs in --data,
    or of RewardBench.
    """

    model: Model
    data: Path | None = None
    """Answers, or pairs for a reward model."""
    prompts: Path | None = None
    """Prompts to answer."""
    reward: tuple[str, ...] = ()
    """What scores the answers, as of `rlhf grpo`; without --prompts those of a benchmark."""
    truth: str | None = None
    """What the answers are truly worth, written as a reward: R^2 of it on --reward, over what each
    --filter of rlhf ppo keeps. The largest says which one to train with."""
    judge: str | None = None
    """What says which of two models' answers is better, as of `rlhf selfplay`."""
    against: Path | None = None
    """Model that answers the same prompts."""
    comparisons: Path | None = None
    """Pairs that show a reward of users who their users are, new ones too; --data is then all
    measured. Without a field user they are all of one user, and so are those of --data."""
    verdicts: Literal["binary", "graded"] | None = None
    """Verdicts of a judge that thinks in text, as of rlhf reward --kind judge."""
    calibration: bool = False
    """Also whether a language model is as sure of the next token of --data as it is right."""
    total: int = 256
    """Answers in all, about."""
    out: Path | None = None
    """A JSON file for the numbers."""


def evaluate(command: str, options: Evaluate) -> None:
    """Measures and prints."""
    new_file(options.out)
    folder = options.model.model
    with reading_input():
        reward = is_reward(read_entries(folder / "config.json"))
    check_eval(options, users=has_users(folder))
    if options.verdicts is not None:
        found = _of_judge(options, is_reward=reward)
    elif options.reward and options.prompts is None and is_bench_file(options.data):
        found = _of_rewards(options)
    elif has_users(folder):
        found = _of_users(options)
    elif has_mixture(folder):
        found = _of_mixture(options)
    elif has_features(folder):
        found = _of_features(options)
    elif has_corrections(folder):
        found = _of_corrections(options)
    elif has_verdicts(folder):
        found = _of_verdicts(options)
    elif has_gaps(folder):
        found = _of_gaps(options)
    elif (known := read_principles(folder)) is not None:
        found = _of_principles(options, known)
    else:
        found = _of_reward(options) if reward else _of_policy(options)
    if not found:
        raise UserError("rlhf eval needs --data FILE, or --prompts FILE with --reward")
    for name, value in found.items():
        print(f"{name}: {shown(value)}")
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _of_reward(options: Evaluate) -> Numbers:
    """Accuracy and calibration of a reward model, by what it scores; errors of ratings."""
    folder = options.model.model
    if options.data is None:
        return {}
    if is_bench_file(options.data):
        return bench_by_model(folder, options.data)
    if read_separator(folder) is not None:
        lab, reward = open_process(folder)
        records = read_steps(options.data, lab.chat)
        narrow = narrowed(lab, records)
        return step_quality(scored_steps(narrow, reward.params, records, batch_size=BATCH))
    if has_segments(folder):
        lab, params, labels = open_segments(folder)
        records = read_marked(options.data, lab.chat)
        narrow = narrowed(lab, records)
        return segment_quality(narrow, labels, records, params, batch_size=BATCH)
    if has_ratings(folder):
        lab, params, units = open_ratings(folder)
        records = read_ratings(options.data, lab.chat, names=units.names)
        return rating_quality(narrowed(lab, records), units, records, params, batch_size=BATCH)
    lab, params = open_reward(folder)
    records = read_pairs(options.data, lab.chat)
    found = reward_quality(narrowed(lab, records), records, params, batch_size=BATCH)
    if names := read_annotators(folder):
        heads, members = with_heads(narrowed(lab, records), params, folder)
        found |= annotator_quality(heads, names, records, members, batch_size=BATCH)
    return found


def _of_principles(options: Evaluate, known: Principles) -> Numbers:
    """Accuracy and calibration of yes and no, or the score on a benchmark of all principles."""
    if options.data is None:
        return {}
    folder = options.model.model
    if is_bench_file(options.data):
        every, _ = told_reward("principle_mean", (), known, principle_scores(folder, known))
        with reading_input():
            return bench_numbers(
                options.data, read_chat_template(folder), partial(all_scores, every)
            )
    if known.words is not None:
        found = open_entailment(folder, known)
        records = read_labelled(options.data, found.lab.chat)
        return principle_quality(record_odds(*found, batch_size=BATCH), records, known)
    lab, params = open_reward(folder, told=True)
    records = read_labelled(options.data, lab.chat)
    return principle_quality(head_odds(lab, params, known, batch_size=BATCH), records, known)


def _of_users(options: Evaluate) -> Numbers:
    """Accuracy and calibration of a reward of users, on pairs that its training has not seen."""
    if options.data is None:
        return {}
    lab, params, model = open_users(options.model.model)
    records = read_pairs(options.data, lab.chat)
    if options.comparisons is not None:
        model, records = asked_users(lab, params, model, options.comparisons, records)
    pairs = embedded_pairs(narrowed(lab, records), params, records, batch_size=BATCH)
    return user_quality(model, model.units.of(pairs), records)


def _of_mixture(options: Evaluate) -> Numbers:
    """Accuracy and calibration of rewards of groups, on pairs that their training has not seen."""
    if options.data is None:
        return {}
    lab, params, model = open_mixture(options.model.model)
    records = read_pairs(options.data, lab.chat)
    pairs = embedded_pairs(narrowed(lab, records), params, records, batch_size=BATCH)
    return mixture_quality(model, model.units.of(pairs), records)


def _of_verdicts(options: Evaluate) -> Numbers:
    """Accuracy and calibration of a pairwise judge, or its score on a benchmark."""
    if options.data is None:
        return {}
    found = open_verdicts(options.model.model)
    with reading_input():
        if is_bench(options.data):
            items = read_bench(options.data)
            return bench_quality(
                items, bench_scores(found, items, bench_prompts(items, found.lab.chat))
            )
    records = read_pairs(options.data, found.lab.chat)
    narrow = found._replace(lab=narrowed(found.lab, records))
    return judge_quality(narrow, records, batch_size=BATCH)


def _of_gaps(options: Evaluate) -> Numbers:
    """Accuracy and calibration of a gap model."""
    if options.data is None:
        return {}
    found = open_gaps(options.model.model)
    records = read_pairs(options.data, found.lab.chat)
    lab = narrowed(found.lab, records)
    return gap_quality(gap_table(lab, found.params, records, batch_size=BATCH), records)


def _of_corrections(options: Evaluate) -> Numbers:
    """Of a model that rewrites answers: as of a reward model, and the losses of its maps."""
    if options.data is None:
        return {}
    lab, reward = open_corrections(options.model.model)
    if is_bench_file(options.data):
        return bench_numbers(options.data, lab.chat, partial(text_scores, lab, reward.params))
    records = read_pairs(options.data, lab.chat)
    given = narrowed(lab, records), map_losses(lab), records, reward.params
    return correction_quality(*given, batch_size=BATCH)


def _of_judge(options: Evaluate, *, is_reward: bool) -> Numbers:
    """Accuracy of a language model's verdicts."""
    if is_reward or options.verdicts is None:
        raise UserError("--verdicts is for a language model, and this is a reward model")
    return {} if options.data is None else pairs_quality(options, options.verdicts)


def _of_features(options: Evaluate) -> Numbers:
    """Accuracy and calibration of a reward of named features; of RewardBench its score."""
    if options.data is None:
        return {}
    folder = options.model.model
    model = read_feature_model(folder)
    with reading_input():
        chat = read_chat_template(folder)
    if is_bench_file(options.data):
        return bench_numbers(
            options.data, chat, partial(all_scores, feature_reward(folder, named_reward))
        )
    records = read_pairs(options.data, chat)
    rated = rate_records(open_rater(folder, model, named_reward), records, model.features)
    if not len(rated.rows):
        raise UserError(f"none of the {rated.total} pairs has all ratings of both answers")
    return feature_quality(model, rated, records)


def _of_rewards(options: Evaluate) -> Numbers:
    """A benchmark's score by the rewards that are named, each with its weight.

    Raises:
      UserError: a reward reads a field, which the rows of a benchmark lack.
    """
    assert options.data is not None
    found = [named_reward(spec) for spec in options.reward]
    for spec, (*_, column) in zip(options.reward, found, strict=True):
        if column is not None:
            raise UserError(f"{spec} reads the field {column!r}, which a benchmark lacks")
    with reading_input():
        chat = read_chat_template(options.model.model)

    def score(prompts: Sequence[Any], answers: Sequence[str]) -> np.ndarray:
        each = [weight * all_scores(reward, prompts, answers) for weight, _, reward, _ in found]
        return np.sum(each, axis=0)

    return bench_numbers(options.data, chat, score)


def _of_policy(options: Evaluate) -> Numbers:
    """Perplexity of a language model, rewards of its answers, and win rates."""
    base = open_model(options.model)
    found: Numbers = {}
    if options.data is not None:
        records = read_answers(options.data, base.chat)
        lab, (records,) = open_lab(options, base, [(options.data, records)])
        found |= answer_loss(lab, records, base.params, batch_size=BATCH)
        if options.calibration and records:
            found |= calibration(lab, records, base.params, batch_size=BATCH)
    elif options.calibration:
        raise UserError("--calibration is of the tokens of answers: give them by --data")
    if options.truth is not None and not (options.prompts and options.reward):
        raise UserError("--truth is compared with --reward, on answers to --prompts")
    if options.judge is not None and options.against is None:
        raise UserError("--judge compares the answers of two models: give the other, --against DIR")
    if options.prompts is None or not (options.reward or options.judge):
        return found
    records = read_prompts(options.prompts, base.chat)
    lab, (records,) = open_lab(options, base, [(options.prompts, records)], answers=False)
    costs = {} if options.truth is None else {TRUTH: options.truth}
    task = scored_task(options.reward, records, heldout=0.0, costs=costs)
    indices = np.arange(len(records))[: options.total]
    measure_answers = partial(answer_quality, task=task, indices=indices, total=options.total)
    found |= measure_answers(lab, ref_params=base.params, params=base.params)
    if options.truth is not None:
        found |= filter_choice(lab, task, base.params, indices, total=options.total)
    if options.against is not None:
        other = open_model(replace(options.model, model=options.against))
        sides = answered(task, indices, options, (base, other), records)
        compare = named_compare(options.judge)
        found |= win_quality(task, indices, *sides, compare=compare)
    return found


def answered(
    task: Task,
    indices: np.ndarray,
    options: Evaluate,
    models: Sequence[Pretrained],
    records: Sequence[dict],
) -> list[Measured]:
    """Answers of each model to the same prompts."""
    samples, found = max(1, round(options.total / len(indices))), []
    for model in models:
        lab, _ = open_lab(options, model, [("--prompts", records)], answers=False)
        given = (lab, task, model.params, model.params, indices, stage_key(lab, "evaluation"))
        found.append(measure(*given, samples=samples, chunk=chunk_of(lab, len(indices))))
    return found
