"""Several rewards as those of groups, from `--groups`."""

from collections.abc import Callable
from functools import partial

from rlhf_jax.cli.online_options import Groups, Scoring
from rlhf_jax.ops.aggregate import minimum_rewards
from rlhf_jax.recipes import (
    LanguageLab,
    Reward,
    Task,
    grouped_reward,
    soft_group_scores,
    worst_group_scores,
)
from rlhf_jax.training import UserError


def check_groups(options: Groups, scoring: Scoring) -> None:
    """UserError for groups of fewer than two rewards."""
    if options.groups != "sum" and len(scoring.reward) < 2:
        raise UserError(
            f"--groups {options.groups} needs a --reward of each group, two or more, got "
            f"{len(scoring.reward)}"
        )


def group_rewarded(options: Groups) -> Callable[[LanguageLab, Task], Reward] | None:
    """What an answer is paid; None for the sum, which every command pays by itself."""
    if options.groups == "sum":
        return None
    rules = {
        "worst": worst_group_scores,
        "soft": partial(soft_group_scores, temperature=options.group_temperature),
        "answer": minimum_rewards,
    }
    return partial(grouped_reward, rule=rules[options.groups])
