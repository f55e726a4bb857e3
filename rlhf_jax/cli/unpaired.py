"""Commands on single answers with a label: kto."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rlhf_jax.cli.data import read_both, read_labelled
from rlhf_jax.cli.measures import compared, label_accuracy, side_logps
from rlhf_jax.cli.options import Adapter, Model, Optimizer, Output, Rows
from rlhf_jax.cli.session import (
    Counted,
    finish,
    make_fit,
    measured,
    open_lab,
    open_model,
    open_session,
    start_policy,
)
from rlhf_jax.losses import kto_loss
from rlhf_jax.recipes import labelled_rows, unpaired, with_mismatched
from rlhf_jax.training import run_stage

SIDES = ("answer", "mismatched")


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
    base = open_model(options.model)
    given, held = read_both(options.rows, read_labelled, base.chat, options.model.seed)
    lab = open_lab(options, base, [*given, *held])
    records, batch = with_mismatched(given), options.optimizer.batch_size
    lab, first, merge = start_policy(options.adapter, lab, base)
    with open_session(command, options, options.output) as run:

        def reference(stage: Any) -> Any:
            found = side_logps(lab, first, records, SIDES, batch_size=batch)
            return {side: found[side] for side in SIDES}, {}

        known = run_stage(run, "reference", reference).arrays
        rows = Counted(labelled_rows(lab, records, batch_size=batch, reference=known))
        quality = partial(label_accuracy, lab, held, first, batch_size=batch)
        before = measured(run, "before", lambda: quality(first))
        fit = make_fit(options.optimizer, rows, total=len(records), quality=quality)
        loss: Any = partial(
            kto_loss,
            beta=options.beta,
            desirable_weight=options.desirable_weight,
            undesirable_weight=options.undesirable_weight,
        )

        def work(stage: Any) -> Any:
            return unpaired(stage, lab, rows, first, fit, loss=loss, mismatched=True), {}

        params = run_stage(run, command, work).arrays
        after = measured(run, "after", lambda: quality(params))
        finish(run, base, merge(params), numbers=compared(before, after), stage=command)
