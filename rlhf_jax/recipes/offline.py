"""Recipes on data that is there: SFT, reward model, preference model, any loss of pairs.

    rows = answer_rows(lab, records, batch_size=16)
    params = supervised(stage, lab, rows, params, Fit(adamw_cosine(3e-3, 200), steps=200))

Each fits `params` to `rows[0]`, `rows[1]`, ... within a stage of a run, with its checkpoints and
metrics, and returns the fitted parameters.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlhf_jax.algos import preference as preference_update
from rlhf_jax.algos import preference_model as preference_model_update
from rlhf_jax.algos import reward_model as reward_update
from rlhf_jax.algos import sft
from rlhf_jax.algos.moving_reference import (
    MovingReference,
    init_moving_reference,
    make_moving_reference_update,
)
from rlhf_jax.checks import check_range
from rlhf_jax.data.tokenizer import separator_id
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.policies.language import language_preference
from rlhf_jax.recipes.buckets import SIDES
from rlhf_jax.recipes.experts import balance, trajectories
from rlhf_jax.recipes.flops import fit_flops
from rlhf_jax.recipes.guards import LateChecks, check_first_loss
from rlhf_jax.recipes.lab import LanguageLab, start_training
from rlhf_jax.recipes.rows import Records, Rows, halves, in_chunks, pair_batch, side_batch
from rlhf_jax.training import Stage, UserError, train_stage
from rlhf_jax.training.metrics import as_number
from rlhf_jax.training.trees import is_whole_here
from rlhf_jax.types import AnswerLogps, PairLoss, Params, PreferenceFn, PyTree, Trajectory

Measure = Callable[[Params, int], dict[str, Any]]


def nothing(params: Params, step: int) -> dict[str, Any]:
    """No numbers beside a step's own."""
    return {}


class Fit(NamedTuple):
    """How long and by which rule.

    steps: updates in all; an optimizer with a schedule needs the same number.
    save_every: updates between checkpoints.
    measure: `(params, step) -> numbers` to log beside a step's own, {} at most steps; `at_points`
      makes one.
    parts: micro-batches of each gradient step, as in `gradient.accumulate`: the same step in less
      memory. `selfplay` has none.
    first_loss: what the loss of the first step must be (`guards.known_first_loss`), if known.
    """

    optimizer: optax.GradientTransformation
    steps: int
    save_every: int = 100
    measure: Measure = nothing
    parts: int = 1
    first_loss: float | None = None


def at_points(measure: Measure, *, steps: int, points: int) -> Measure:
    """`measure` at the last step of each of `points` equal parts of the training, else {}."""
    marks = {round(steps * (j + 1) / points) for j in range(points)}

    def measured(params: Params, step: int) -> dict[str, Any]:
        return measure(params, step) if step + 1 in marks else {}

    return measured


def supervised(stage: Stage, lab: LanguageLab, rows: Rows, params: Params, fit: Fit) -> Params:
    """Maximum likelihood of the answers, given their prompts."""
    update = built(sft.make_update, lab.policy, fit.optimizer, **step_options(lab, fit))
    return fit_rows(stage, lab, update, rows, params, fit, part="policy")


def reward_model(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    loss: Any = bradley_terry_loss,
) -> Params:
    """A score per answer from pairs; params from `on_trunk`, or of an earlier reward model.

    Args:
      loss: `(chosen_scores [B], rejected_scores [B]) -> [B]`.
    """
    options = {"loss": loss} | step_options(lab, fit, "reward")
    update = built(reward_update.make_update, lab.reward, fit.optimizer, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="reward")


def preference_model(
    stage: Stage, lab: LanguageLab, rows: Rows, params: Params, fit: Fit
) -> Params:
    """P(first beats second) from pairs, by a model that reads both answers (`preference_of`)."""
    make_update = preference_model_update.make_update
    options = step_options(lab, fit, "reward")
    update = built(make_update, preference_of(lab), fit.optimizer, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="reward")


def preference(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    loss: PairLoss,
    logps: AnswerLogps = sequence_logps,
    reference: bool = True,
) -> Params:
    """Any loss of pairs: DPO, IPO, SimPO and the others of docs/losses.md.

    Args:
      rows: pairs with their reference log-probs (`reference_logps`), unless `reference` is False.
      loss, logps, reference: as in `algos.preference.make_update`.
    """
    options = {"logps": logps, "reference": reference} | step_options(lab, fit)
    update = built(preference_update.make_update, lab.policy, fit.optimizer, loss, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="policy")


def moving_preference(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    loss: PairLoss,
    rate: float,
    every: int = 1,
    logps: AnswerLogps = sequence_logps,
) -> Params:
    """A loss of pairs whose reference starts as the policy and follows it: TR-DPO.

    Args:
      rows: pairs; reference log-probs in them are not read.
      loss, rate, every, logps: as in `algos.moving_reference.make_moving_reference_update`.
    """
    options = {"rate": rate, "every": every, "logps": logps} | step_options(lab, fit)
    update = built(make_moving_reference_update, lab.policy, fit.optimizer, loss, **options)

    def init(params: Params, optimizer: optax.GradientTransformation) -> MovingReference:
        # A copy: the update reuses the memory of its state, each array of it once.
        return init_moving_reference(params, jax.tree.map(jnp.copy, params), optimizer)

    axes = lab.axes["policy"]
    state, step = start_training(lab, params, axes, fit.optimizer, update, init=init)
    flops = partial(fit_flops, lab, params)
    return fit_state(stage, step, state, rows, fit, lambda state: state.train.params, flops=flops)


def step_options(lab: LanguageLab, fit: Fit, part: str = "policy") -> dict[str, Any]:
    """What every update of params of this part is given: micro-batches, the balance of experts."""
    return {"parts": fit.parts, "penalty": balance(lab.router_losses, part)}


def _build(make_update: Any, *arguments: Any, **options: Any) -> Any:
    """An update, made anew."""
    return make_update(*arguments, **options)


# The same update for the same arguments, so that jit compiles it once for all folds and seeds.
built: Any = lru_cache(maxsize=64)(_build)


def fit_rows(
    stage: Stage,
    lab: LanguageLab,
    update: Any,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    part: str,
) -> Params:
    """One update per batch of rows; `part` names the axes of the parameters, as in `lab.axes`."""
    state, step = start_training(lab, params, lab.axes[part], fit.optimizer, update)
    flops = partial(fit_flops, lab, state.params)
    return fit_state(stage, step, state, rows, fit, lambda state: state.params, flops=flops)


def fit_state(
    stage: Stage,
    step: Callable[..., tuple[PyTree, dict[str, Any]]],
    state: PyTree,
    rows: Rows,
    fit: Fit,
    params_of: Callable[[PyTree], Params],
    *,
    flops: Callable[[PyTree], float] = lambda batch: 0.0,
) -> Params:
    """One compiled `step(state, batch)` per batch of rows; the params of a state are measured.

    The metric "tokens" is how many of a batch are trained on. flops: of a batch's step.
    """

    clock, checks = stage.run.clock, LateChecks(stage)

    def one(state: PyTree, i: int) -> tuple[PyTree, dict[str, Any]]:
        with clock("data"):
            batch = rows[i]
            tokens = counted_tokens(batch)
        stage.run.compiles.see(stage.name, batch)
        with clock("update"):
            state, metrics = step(state, batch)
            checks.see(state, params_of(state), batch, metrics["loss"], i)
        clock.flops += flops(batch)
        if i == 0 and fit.first_loss is not None:
            added = as_number(metrics["penalty"]) if "penalty" in metrics else 0.0
            check_first_loss(stage, as_number(metrics["loss"]) - added, fit.first_loss)
        with clock("measure"):
            measured = fit.measure(params_of(state), i)
        return state, metrics | {"tokens": tokens} | measured

    def settle(state: PyTree) -> None:
        checks.settle(params_of(state))

    schedule: dict[str, Any] = {"steps": fit.steps, "save_every": fit.save_every}
    return params_of(train_stage(stage, one, state, settle=settle, **schedule))


def counted_tokens(batch: PyTree) -> Any:
    """How many tokens of its trajectories count, on the device if other processes hold some."""
    masks = [each.mask for each in trajectories(batch)]
    if not all(map(is_whole_here, masks)):
        return sum(map(jnp.sum, masks))
    return sum(int(np.asarray(mask).sum()) for mask in masks)


def on_trunk(lab: LanguageLab, policy_params: Params, key: jax.Array) -> Params:
    """First parameters of a reward or preference model: a policy's trunk and a new head."""
    return {**lab.reward.init(key), "trunk": policy_params["trunk"]}


def preference_of(lab: LanguageLab) -> PreferenceFn:
    """The pairwise model: the reward model's transformer, which reads both answers.

    Raises:
      UserError: no token can stand between the answers (`data.tokenizer.separator_id`).
    """
    separator = separator_id(lab.vocabulary)
    if separator is None:
        raise UserError(
            "a pairwise preference model needs a vocabulary with a bos_id, or with another special "
            "token that ends no answer"
        )
    return language_preference(lab.scorer, separator=separator)


def reference_logps(
    lab: LanguageLab,
    params: Params,
    records: Records,
    *,
    batch_size: int,
    logps: AnswerLogps = sequence_logps,
) -> dict[str, np.ndarray]:
    """Log-probs of every answer under the reference, computed once: name of the field -> [N].

    The fields are those of `SIDES` that the records have: "chosen" and "rejected" of pairs,
    "answer" and, after `with_mismatched`, "mismatched".
    """
    check_range("[1, inf)", records=len(records))
    sides = [side for side in SIDES if side in records[0]]

    @jax.jit
    def every(params: Params, batch: dict[str, Trajectory]) -> dict[str, jax.Array]:
        found = partial(preference_update.trajectory_logps, lab.policy, params, logps=logps)
        return {side: found(trajectory) for side, trajectory in batch.items()}

    def chunk(part: list[dict]) -> dict[str, jax.Array]:
        return every(params, side_batch(lab, part, sides))

    return in_chunks(chunk, records, size=batch_size)


class ScoreScale(NamedTuple):
    """(score - mean) / std has mean 0 and variance 1 on the answers that these were measured on."""

    mean: float
    std: float


def pair_scores(lab: LanguageLab, params: Params, pairs: Records, *, batch_size: int) -> np.ndarray:
    """The reward model's scores of chosen and rejected answers, [N, 2]."""

    def score(part: list[dict]) -> jax.Array:
        return lab.scores(params, halves(pair_batch(lab, part)))

    return in_chunks(score, pairs, size=batch_size)


def score_scale(name: str, scores: np.ndarray) -> ScoreScale:
    """Mean and standard deviation of scores.

    Raises:
      UserError: the reward model of stage `name` tells no two answers apart.
    """
    mean, std = float(scores.mean()), float(scores.std())
    # Not std > 0: the rounding of a mean of equal numbers is no spread.
    if not (scores.min() < scores.max() and std < np.inf):
        raise UserError(
            f"{name}: the {scores.size} held-out scores have standard deviation {std}: "
            "raise the steps or the learning rate of this stage"
        )
    return ScoreScale(mean, std)
