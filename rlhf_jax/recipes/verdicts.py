"""Pairwise-RL: a language model that judges two answers by its next token, and PPO on its verdict.

    judge = verdicts_of(lab)
    params = verdict_model(stage, lab, pair_rows(lab, pairs, batch_size=16), sft, fit, judge=judge)
    reward = anchored_reward(lab, task, judge, params, anchors)
    online(stage, lab, task, ppo(lab, config, critic), reward, sft, numbers, fit, key=key)

An answer is compared with an anchor, an answer that the data has for the prompt. Of a fixed anchor
the optimum is a best response to it, not an equilibrium. Without anchors, `algos.verdict_model`'s
`two_order_preference` of the judge compares answers with each other: `selfplay`, or
`judged_reward`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.algos import verdict_model as verdict_model_update
from rlhf_jax.data.tokenizer import separator_id, verdict_ids
from rlhf_jax.losses.feedback import verdict_loss, verdict_margins
from rlhf_jax.losses.pairwise_gradient import pairwise_rewards
from rlhf_jax.models import Transformer
from rlhf_jax.policies.verdicts import language_verdicts
from rlhf_jax.recipes.episodes import Transcripts
from rlhf_jax.recipes.lab import LanguageLab, hold_params, make_trajectories
from rlhf_jax.recipes.offline import Fit, built, fit_rows, step_options
from rlhf_jax.recipes.rewards import Reward
from rlhf_jax.recipes.rows import Records, Rows, in_chunks, side_batch
from rlhf_jax.recipes.task import Scores, Task
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params, Prompts, Trajectory, VerdictFn

VERDICTS = ("A", "B")  # what the judge says of the first answer and of the second


def verdicts_of(lab: LanguageLab, words: tuple[str, str] = VERDICTS) -> VerdictFn:
    """The judge of the lab's policy model.

    Args:
      words: verdicts for the first answer and for the second, a token each.
    Raises:
      UserError: words that are no two tokens, or no token can stand between the answers.
    """
    separator = separator_id(lab.vocabulary)
    if separator is None:
        raise UserError(
            "a pairwise judge needs a vocabulary with a bos_id, or with another special token that "
            "ends no answer"
        )
    try:
        verdicts = verdict_ids(lab.vocabulary, words)
    except ValueError as error:
        raise UserError(str(error)) from error
    return _judge_of(lab.model, separator, verdicts)


@cache
def _judge_of(model: Transformer, separator: int, verdicts: tuple[int, int]) -> VerdictFn:
    """One judge of a model, so that its update compiles once."""
    return language_verdicts(model, separator=separator, verdicts=verdicts)


def verdict_model(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    judge: VerdictFn,
    loss: Any = verdict_loss,
    consistency: float = 0.0,
) -> Params:
    """A judge from pairs in both orders; params of a policy, before and after.

    Args:
      judge: from `verdicts_of`.
      loss, consistency: as in `algos.verdict_model.make_update`.
    """
    options = {"loss": loss, "consistency": consistency} | step_options(lab, fit)
    update = built(verdict_model_update.make_update, judge, fit.optimizer, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="policy")


def verdict_logps(
    lab: LanguageLab,
    judge: VerdictFn,
    params: Params,
    records: Records,
    sides: tuple[str, str] = ("chosen", "rejected"),
    *,
    batch_size: int,
) -> np.ndarray:
    """[N, 2, 2] of these two fields of all records, for `losses.feedback`."""
    logps = _compiled(judge.logps)

    def chunk(part: list[dict]) -> Array:
        both = side_batch(lab, part, sides)
        return logps(params, both[sides[0]], both[sides[1]])

    return in_chunks(chunk, records, size=batch_size)


_compiled: Any = cache(jax.jit)


def anchored_reward(
    lab: LanguageLab,
    task: Task,
    judge: VerdictFn,
    params: Params,
    anchors: Sequence[Any] | Mapping[int, Any],
    *,
    form: Callable[[Array], Array] = pairwise_rewards,
) -> Reward:
    """How an answer compares with the anchor of its prompt, asked in both orders.

    Args:
      judge, params: of `verdict_model`, frozen.
      anchors: the anchor of each of the task's prompts, by its number: a text or messages.
      form: of the margin s: `pairwise_rewards`, P - 1/2; `binary_pairwise_rewards`, the verdict
        alone; `jax.lax.stop_gradient`, s itself, which does not saturate and has no bound.
    Raises:
      UserError: a prompt without an anchor, when it is drawn.
    """
    held = hold_params(lab, params, lab.axes["policy"])

    def host(prompts: Prompts, found: Transcripts) -> tuple[Trajectory, Scores]:
        indices = np.asarray(prompts.indices)
        own = [_anchor_of(anchors, int(i)) for i in indices]
        return make_trajectories(lab, task.texts(indices), own), {}

    def scores(params: Params, given: Trajectory, trajectory: Trajectory) -> Float[Array, "B K"]:
        count = trajectory.mask.shape[1]
        repeated = jax.tree.map(lambda x: jnp.repeat(x[:, None], count, axis=1), given)
        return form(verdict_margins(judge.logps(params, trajectory, repeated)))

    return Reward(held, host, scores)


def _anchor_of(anchors: Sequence[Any] | Mapping[int, Any], number: int) -> Any:
    try:
        found = anchors[number]
    except (IndexError, KeyError):
        found = None
    if not found:
        raise UserError(f"prompt {number} has no anchor, an answer to compare others with")
    return found
