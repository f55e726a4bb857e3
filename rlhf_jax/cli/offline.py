"""Commands on data that is there: sft, preference and reward."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from rlhf_jax.cli.data import read_answers, read_pairs, read_steps
from rlhf_jax.cli.frame import Opened, Training, train_offline
from rlhf_jax.cli.losses import named_loss
from rlhf_jax.cli.measures import answer_loss, pair_accuracy
from rlhf_jax.cli.options import Adapter, Model, Optimizer, Output, Rows
from rlhf_jax.cli.reward_measures import beside_baselines, reward_quality
from rlhf_jax.cli.rewards import length_file
from rlhf_jax.cli.session import Start, start_policy, start_reward
from rlhf_jax.cli.steps import step_training
from rlhf_jax.recipes import (
    LanguageLab,
    answer_rows,
    known_first_loss,
    pair_rows,
    preference,
    reference_logps,
    reward_model,
    supervised,
)
from rlhf_jax.recipes.buckets import by_length, training_buckets


@dataclass(frozen=True, kw_only=True)
class SFT:
    """Supervised fine-tuning: maximum likelihood of the answers, given their prompts.

    Data: rows of a prompt and an answer, dialogues, or a text file, the documents of which are
    separated by blank lines or <|endoftext|>.
    """

    model: Model
    rows: Rows
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=3e-4))
    output: Output


def sft(command: str, options: SFT) -> None:
    """Trains, measures the held-out loss before and after, and writes the model."""
    size = options.optimizer.batch_size

    def make(opened: Opened) -> Training:
        lab, first, merge = start_policy(options.adapter, opened.lab, opened.base)
        return Training(
            lab=lab,
            first=first,
            recipe=supervised,
            rows=lambda _: answer_rows(
                lab,
                opened.records,
                batch_size=size,
                buckets=training_buckets(lab, opened.records, batch_size=size),
            ),
            quality=partial(answer_loss, lab, opened.held, batch_size=size),
            export=merge,
        )

    train_offline(command, options, read_answers, make)


@dataclass(frozen=True, kw_only=True)
class Preference:
    """DPO, IPO, SimPO or any other loss of pairs of answers.

    Data: pairs of a chosen and a rejected answer; see docs/commands.md for the formats.
    """

    model: Model
    rows: Rows
    loss: str = "dpo"
    """Name of the loss, as in docs/losses.md without _loss."""
    loss_options: dict[str, float] = field(default_factory=dict)
    """Settings of the loss, as names and numbers: beta 0.1 label_smoothing 0.1."""
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=5e-5))
    output: Output


def train_preference(command: str, options: Preference) -> None:
    """Trains, measures how often the held-out chosen answer is preferred, and writes the model."""
    chosen = named_loss(options.loss, options.loss_options)
    size = options.optimizer.batch_size

    def make(opened: Opened) -> Training:
        lab, first, merge = start_policy(options.adapter, opened.lab, opened.base)
        records = opened.records
        buckets = training_buckets(lab, records, batch_size=size)

        def reference_of(narrow: LanguageLab, part: list[dict]) -> dict[str, np.ndarray]:
            return reference_logps(narrow, first, part, batch_size=size, logps=chosen.logps)

        def refer() -> dict[str, np.ndarray]:
            return by_length(reference_of, lab, records, batch_size=size)

        return Training(
            lab=lab,
            first=first,
            recipe=partial(preference, **chosen._asdict()),
            rows=lambda known: pair_rows(
                lab, records, batch_size=size, reference=known, buckets=buckets
            ),
            quality=partial(pair_accuracy, lab, opened.held, chosen, first, batch_size=size),
            reference=refer if chosen.reference else None,
            first_loss=partial(known_first_loss, chosen.loss) if chosen.reference else None,
            export=merge,
        )

    train_offline(command, options, read_pairs, make)


@dataclass(frozen=True, kw_only=True)
class Reward:
    """A reward model: a new head on the model's trunk, exported as a classifier with one label.

    --kind outcome scores whole answers, by Bradley-Terry on pairs as of preference. --kind process
    scores each step of an answer, by binary cross-entropy on steps with labels. Numbers on
    pairs stand beside those of two baselines: length, and n-grams fitted by the same loss.
    """

    model: Model
    rows: Rows
    kind: Literal["outcome", "process"] = "outcome"
    """What has a score: an answer, or each step of an answer."""
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=1e-4))
    output: Output


def reward(command: str, options: Reward) -> None:
    """Trains, measures held-out accuracy and calibration, and writes the model."""
    size, process = options.optimizer.batch_size, options.kind == "process"
    training = step_training if process else pair_training

    def make(opened: Opened) -> Training:
        start = start_reward(options.adapter, opened.lab, opened.base)
        found = training(opened, start, batch_size=size)
        return found._replace(files={**found.files, **length_file(options.model)})

    train_offline(command, options, read_steps if process else read_pairs, make)


def pair_training(opened: Opened, start: Start, *, batch_size: int) -> Training:
    """A score for each answer, from pairs."""
    return Training(
        lab=start.lab,
        first=start.params,
        recipe=reward_model,
        rows=lambda _: pair_rows(
            start.lab,
            opened.records,
            batch_size=batch_size,
            buckets=training_buckets(start.lab, opened.records, batch_size=batch_size),
        ),
        quality=partial(reward_quality, start.lab, opened.held, batch_size=batch_size),
        compare=partial(
            beside_baselines, start.lab, opened.records, opened.held, batch_size=batch_size
        ),
        export=start.merge,
    )
