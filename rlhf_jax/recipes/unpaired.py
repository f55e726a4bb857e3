"""Recipes on single answers with a label or a score: APO-zero, KTO, BCO, DRO.

    records = with_mismatched(records)  # for KTO
    reference = reference_logps(lab, sft, records, batch_size=16)
    rows = labelled_rows(lab, records, batch_size=16, reference=reference)
    params = unpaired(stage, lab, rows, sft, fit, loss=partial(kto_loss, beta=0.1), mismatched=True)

Records are {"prompt", "answer", "label"}, the label true for a good answer, or {"prompt", "answer",
"score"} for DRO. Each recipe returns the parameters of the policy.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos import unpaired as unpaired_update
from rlhf_jax.algos.ppo import ActorCritic
from rlhf_jax.data.loader import batches
from rlhf_jax.recipes.lab import LanguageLab, start_training
from rlhf_jax.recipes.offline import Fit, built, fit_rows, fit_state, step_options
from rlhf_jax.recipes.rows import Records, Rows, check_reference, side_batch
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params, Scalar, UnpairedLoss


def unpaired(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    loss: UnpairedLoss,
    mismatched: bool = False,
) -> Params:
    """A loss of labelled answers: APO-zero, point-wise DPO; KTO with `mismatched`.

    Args:
      loss, mismatched: as in `algos.unpaired.make_update`.
    """
    options = {"mismatched": mismatched} | step_options(lab, fit)
    update = built(unpaired_update.make_update, lab.policy, fit.optimizer, loss, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="policy")


def bco(
    stage: Stage, lab: LanguageLab, rows: Rows, params: Params, fit: Fit, *, beta: Scalar
) -> Params:
    """BCO on labelled answers; its running mean is saved with the training state."""
    options = {"beta": beta} | step_options(lab, fit)
    update = built(unpaired_update.make_bco_update, lab.policy, fit.optimizer, **options)
    axes, init = lab.axes["policy"], unpaired_update.init_bco
    state, step = start_training(lab, params, axes, fit.optimizer, update, init=init)
    return fit_state(stage, step, state, rows, fit, lambda state: state.train.params)


def dro(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    beta: Scalar,
    critic: Params,
) -> Params:
    """DRO on scored answers: rows with `label="score"`.

    Args:
      critic: first parameters of the lab's value model, which is trained too, e.g. `critic_of`.
    """
    options = {"beta": beta} | step_options(lab, fit)
    update = built(unpaired_update.make_dro_update, lab.policy, lab.value, fit.optimizer, **options)
    axes = ActorCritic(lab.axes["policy"], lab.axes["value"])
    both = ActorCritic(params, critic)
    state, step = start_training(lab, both, axes, fit.optimizer, update)
    return fit_state(stage, step, state, rows, fit, lambda state: state.params.policy)


def with_mismatched(records: Records) -> list[dict]:
    """The records with a field "mismatched", an answer to another prompt, for KTO's KL.

    It is the answer of the nearest record before with another prompt, the last one standing before
    the first. The partner is the same in every epoch, so its reference log-prob is computed once.

    Raises:
      UserError: all records have the same prompt.
    """
    rows = [dict(records[i]) for i in range(len(records))]
    prompts = [row["prompt"] for row in rows]
    other = [i for i, prompt in enumerate(prompts) if prompt != prompts[0]]
    if not other:
        raise UserError(
            "mismatched answers need records of at least two different prompts, got "
            f"{len(rows)} records of {len(set(prompts))}"
        )
    partner = other[-1]
    for i, row in enumerate(rows):
        if i > 0 and prompts[i - 1] != prompts[i]:
            partner = i - 1
        row["mismatched"] = rows[partner]["answer"]
    return rows


def labelled_rows(
    lab: LanguageLab,
    records: Records,
    *,
    batch_size: int,
    reference: Mapping[str, np.ndarray],
    label: str = "label",
) -> Rows:
    """Batches of labelled answers, and of mismatched ones if the records have them.

    Args:
      reference: log-probs [N] by `reference_logps` of the same records.
      label: field with the label, or the score.
    Raises:
      UserError: a label that is neither true or false nor a finite number, or a reference of other
        records.
    """
    labels = _labels(records, label)
    sides = [side for side in ("answer", "mismatched") if side in records[0]]
    check_reference(reference, records, sides)

    def take(numbers: Sequence[int]) -> unpaired_update.UnpairedBatch:
        rows = np.asarray(numbers)
        found = side_batch(lab, [records[int(i)] for i in rows], sides)
        refs = {side: jnp.asarray(reference[side][rows]) for side in sides}
        return unpaired_update.UnpairedBatch(
            answers=found["answer"],
            labels=jnp.asarray(labels[rows]),
            ref_logps=refs["answer"],
            mismatched=found.get("mismatched"),
            ref_mismatched_logps=refs.get("mismatched"),
        )

    return batches(len(records), batch_size=batch_size, seed=lab.seed, batch_fn=take)


def _labels(records: Records, field: str) -> np.ndarray:
    """[N] bool if all are true or false, else float32."""
    values: list[Any] = [records[i].get(field) for i in range(len(records))]
    for i, value in enumerate(values):
        known = isinstance(value, bool | np.bool_ | int | float | np.number)
        if not (known and math.isfinite(value)):
            raise UserError(
                f"record {i}: field {field!r} must be true or false, or a finite number, got "
                f"{value!r}"
            )
    dtype = bool if all(isinstance(value, bool | np.bool_) for value in values) else np.float32
    return np.array(values, dtype)
