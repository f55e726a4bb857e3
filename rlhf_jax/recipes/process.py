"""Process reward models: labels of steps to a model, and the model to a reward.

    rows = step_rows(lab, records, batch_size=16)       # {"prompt", "steps", "labels"}
    params = process_model(stage, lab, rows, params, fit)
    reward = process_reward(lab, params, combine=step_minimum)
    method = ppo(lab, PPOConfig(), critic, credit=gae_of_steps)    # each step paid at its end

A step ends at a token with the separator in its text, in answers to learn from and in sampled ones
alike (`ops.steps.step_ends`), and is scored there.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rlhf_jax.algos import process_model as process_update
from rlhf_jax.algos.process_model import StepBatch
from rlhf_jax.data.loader import batches
from rlhf_jax.ops.steps import step_ends, step_product, step_rewards
from rlhf_jax.policies.language import language_step_scores
from rlhf_jax.recipes.lab import LanguageLab, make_trajectories
from rlhf_jax.recipes.offline import Fit, built, fit_rows, step_options
from rlhf_jax.recipes.refusals import quoted
from rlhf_jax.recipes.rewards import Reward
from rlhf_jax.recipes.rows import Records, Rows
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params, Trajectory, Vocabulary

SEPARATOR = "\n"
scores_of = cache(language_step_scores)  # one function of a model, so that its update compiles once


def step_rows(
    lab: LanguageLab, records: Records, *, batch_size: int, separator: str = SEPARATOR
) -> Rows:
    """Batches of answers with labelled steps, in an order of the lab's seed; see `step_batch`."""
    ends = make_step_ends(lab.vocabulary, separator)

    def take(part: Sequence[dict]) -> StepBatch:
        return step_batch(lab, part, ends, separator)

    return batches(records, batch_size=batch_size, seed=lab.seed, batch_fn=take)


def step_batch(
    lab: LanguageLab,
    records: Sequence[Mapping[str, Any]],
    ends: Callable[[Trajectory], Bool[Array, "*B T"]],
    separator: str,
) -> StepBatch:
    """Answers as `joined_steps`, with the labels at the ends of their steps.

    Of an answer longer than the lab's, the steps that are there in full are learned.

    Args:
      records: {"prompt", "steps": texts, "labels": a number in [0, 1] for each}.
    Raises:
      UserError: a record with no steps, other labels, or steps that cannot be told apart in the
        tokens; it quotes the prompt.
    """
    for record in records:
        _check_steps(record)
    answers = [joined_steps(record["steps"], separator) for record in records]
    trajectory = make_trajectories(lab, [record["prompt"] for record in records], answers)
    found = np.asarray(ends(trajectory))
    stops = np.isin(np.asarray(trajectory.actions), lab.vocabulary.stop_ids)
    whole = (stops & np.asarray(trajectory.mask)).any(-1)
    last = found & (np.cumsum(found[:, ::-1], -1)[:, ::-1] == 1)
    found = found & (~last | whole[:, None])
    labels = np.zeros(found.shape, np.float32)
    for row, (record, known) in enumerate(zip(records, found, strict=True)):
        count = int(known.sum())
        if count > len(record["labels"]) or (whole[row] and count < len(record["labels"])):
            raise UserError(
                f"the record with the prompt {quoted(record['prompt'])}: {len(record['labels'])} "
                f"steps are {count} in its tokens; the tokenizer must have tokens for the "
                f"separator {separator!r}"
            )
        labels[row, known] = record["labels"][:count]
    return StepBatch(trajectory, jnp.asarray(found), jnp.asarray(labels))


def joined_steps(steps: Sequence[str], separator: str = SEPARATOR) -> str:
    """One answer of steps; white space at their ends and breaks within them are removed.

    >>> joined_steps(["1 + 1 = 2", " so\\nit is 2 "])
    '1 + 1 = 2\\nso it is 2'
    """
    inside = separator.strip(" ")
    return separator.join(" ".join(step.replace(inside, " ").split()) for step in steps)


def make_step_ends(
    vocabulary: Vocabulary, separator: str = SEPARATOR
) -> Callable[[Trajectory], Bool[Array, "*B T"]]:
    """`trajectory [*B] -> ends [*B, T]`: `step_ends`, a break where a token has the separator."""
    tokens = [[number] for number in range(vocabulary.size)]
    texts = vocabulary.tokenizer.decode_batch(tokens, skip_special_tokens=False)
    table = np.array([separator.strip(" ") in text for text in texts])
    if not table.any():
        raise UserError(f"no token of the tokenizer has the separator of steps, {separator!r}")

    def ends(trajectory: Trajectory) -> Array:
        actions = trajectory.actions
        stops = jnp.isin(actions, jnp.asarray(vocabulary.stop_ids))
        return step_ends(jnp.asarray(table)[actions], stops, trajectory.mask)

    return ends


def process_model(stage: Stage, lab: LanguageLab, rows: Rows, params: Params, fit: Fit) -> Params:
    """A score for each step from labels; params from `on_trunk`, as of a reward model."""
    options = step_options(lab, fit, "reward")
    update = built(process_update.make_update, scores_of(lab.scorer), fit.optimizer, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="reward")


def process_reward(
    lab: LanguageLab,
    params: Params,
    *,
    combine: Callable[[Array, Array], Float[Array, "*B"]] = step_product,
    separator: str = SEPARATOR,
) -> Reward:
    """The steps' scores combined to one for the answer, and as rewards of their last tokens.

    Args:
      combine: `(step_scores, ends) -> [*B]`: `ops.steps.step_product` or `step_minimum`.
    """
    ends, step_scores = make_step_ends(lab.vocabulary, separator), scores_of(lab.scorer)

    def scores(params: Params, _: Any, trajectory: Trajectory) -> jax.Array:
        return combine(step_scores(params, trajectory), ends(trajectory))

    def steps(params: Params, _: Any, trajectory: Trajectory) -> jax.Array:
        return step_rewards(step_scores(params, trajectory), ends(trajectory))

    return Reward(params, lambda prompts, found: ((), {}), scores, steps)


def _check_steps(record: Mapping[str, Any]) -> None:
    """UserError for a record without steps, or without a label in [0, 1] for each."""
    steps, labels = record.get("steps") or (), record.get("labels") or ()
    numbers = [isinstance(x, bool | int | float) and 0 <= x <= 1 for x in labels]
    if not steps or len(steps) != len(labels) or not all(numbers):
        raise UserError(
            f"the record with the prompt {quoted(record.get('prompt'))} must have steps, and a "
            f"label in [0, 1] for each, got {len(steps)} steps and the labels {list(labels)!r:.60}"
        )
