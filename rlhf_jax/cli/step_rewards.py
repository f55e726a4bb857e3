"""Rewards of --reward that are paid within an answer: of its steps, segments or tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rlhf_jax.cli.corrections import RULES, check_positions
from rlhf_jax.cli.implicit import IMPLICIT, open_implicit
from rlhf_jax.cli.reward_folders import HEAD, STEPWISE, head_and_folder, open_head, open_stepwise
from rlhf_jax.cli.rewards import weighed
from rlhf_jax.recipes import (
    LanguageLab,
    Reward,
    Task,
    implied_reward,
    segment_reward,
    task_reward,
    weighted_reward,
)
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.training import UserError


class StepSpec(NamedTuple):
    """A reward of steps, segments or tokens.

    kind: a name of STEPWISE, HEAD or IMPLICIT. where: its folder; of IMPLICIT "FOLDER,REFERENCE".
    """

    weight: float
    kind: str
    where: str


def step_specs(specs: Sequence[str]) -> dict[str, StepSpec]:
    """The rewards that score steps, segments or tokens, by name.

    Raises:
      UserError: none does.
    """
    found = {}
    for weight, what in map(weighed, specs):
        kind, _, rest = what.partition(":")
        if kind in (*STEPWISE, IMPLICIT):
            found[kind] = StepSpec(weight, kind, rest)
        elif kind == HEAD:
            name, folder = head_and_folder(rest)
            found[name] = StepSpec(weight, kind, str(folder))
    if not found:
        kinds = ":FOLDER, ".join(STEPWISE)
        raise UserError(
            f"--step-rewards needs --reward {kinds}:FOLDER, {IMPLICIT}:FOLDER,REFERENCE or "
            f"{HEAD}:HEAD,FOLDER"
        )
    return found


def paid_steps(steps: Mapping[str, StepSpec], lab: LanguageLab, task: Task) -> Reward:
    """The rewards of `scored_task` on the device, steps and segments paid at their ends.

    Args:
      steps: `step_specs` of the task's rewards; the others are paid with the last token.
    Raises:
      UserError: a reward of steps has other tokens than the lab, or too few positions for it.
    """
    parts: dict[str, tuple[float, Reward]] = {}
    for name, (weight, kind, where) in steps.items():
        if kind == HEAD:
            other, head = open_head(name, Path(where), mesh=lab.mesh)
            reward = segment_reward(other, task._replace(score=None), {name: head})
        elif kind == IMPLICIT:
            other, params = open_implicit(where, mesh=lab.mesh)
            reward = implied_reward(other, params, ScoreScale(0.0, 1.0), beta=1.0)
        else:
            other, reward = open_stepwise(Path(where), kind, mesh=lab.mesh)
        if other.vocabulary.tokenizer.to_str() != lab.vocabulary.tokenizer.to_str():
            raise UserError(
                f"--step-rewards: {where} has another tokenizer than the model; train it from "
                "the model, or leave --step-rewards out"
            )
        if kind in RULES:
            check_positions(other.model.config, lab)
        parts[name] = (weight, reward)
    assert isinstance(task.objective, Mapping)
    if rest := {name: x for name, x in task.objective.items() if name not in parts}:
        parts["answer"] = (1.0, task_reward(lab, task._replace(objective=rest)))
    return weighted_reward(parts)
