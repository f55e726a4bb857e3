"""Commands on single answers with a label: kto."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rlhf_jax.cli.data import read_labelled
from rlhf_jax.cli.frame import Opened, Training, train_offline
from rlhf_jax.cli.measures import label_accuracy
from rlhf_jax.cli.options import Adapter, Model, Optimizer, Output, Rows
from rlhf_jax.cli.session import start_policy
from rlhf_jax.losses import kto_loss
from rlhf_jax.recipes import labelled_rows, reference_logps, unpaired, with_mismatched


@dataclass(frozen=True, kw_only=True)
class KTO:
    """KTO: answers marked good or bad one by one.

    Data: rows of a prompt, an answer and a label; pairs count as one good and one bad answer.
    """

    model: Model
    rows: Rows
    beta: float = 0.1
    """KL weight, > 0."""
    desirable_weight: float = 1.0
    """Of good answers."""
    undesirable_weight: float = 1.0
    """Of bad answers."""
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=5e-5))
    output: Output


def kto(command: str, options: KTO) -> None:
    """Trains, measures how often good answers gain and bad ones lose, and writes the model."""
    size = options.optimizer.batch_size
    loss: Any = partial(
        kto_loss,
        beta=options.beta,
        desirable_weight=options.desirable_weight,
        undesirable_weight=options.undesirable_weight,
    )

    def make(opened: Opened) -> Training:
        records = with_mismatched(opened.records)
        lab, first, merge = start_policy(options.adapter, opened.lab, opened.base)
        return Training(
            lab=lab,
            first=first,
            recipe=partial(unpaired, loss=loss, mismatched=True),
            rows=lambda known: labelled_rows(lab, records, batch_size=size, reference=known or {}),
            quality=partial(label_accuracy, lab, opened.held, first, batch_size=size),
            reference=partial(reference_logps, lab, first, records, batch_size=size),
            export=merge,
        )

    train_offline(command, options, read_labelled, make)
