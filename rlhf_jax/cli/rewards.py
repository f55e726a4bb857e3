"""What answers are worth, from --reward: functions, verifiers, judges and reward models."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rlhf_jax.checks import check_range
from rlhf_jax.cli.entailment import RULE, rule_reward
from rlhf_jax.cli.features import feature_reward, has_features
from rlhf_jax.cli.gaps import GAP, gap_reward, open_gaps
from rlhf_jax.cli.implicit import IMPLICIT, open_implicit
from rlhf_jax.cli.judging import folder_judge
from rlhf_jax.cli.online_options import Scoring
from rlhf_jax.cli.principles import COMBINED_PRINCIPLES
from rlhf_jax.cli.reward_folders import (
    BY_GROUP,
    BY_USER,
    ENSEMBLES,
    HEAD,
    RATING,
    SCALED,
    STEPWISE,
    ensemble_score,
    head_and_folder,
    head_score,
    is_number,
    model_score,
    open_reward,
    open_stepwise,
    principle_reward,
    rating_score,
    scaled_name,
    scaled_score,
)
from rlhf_jax.cli.user_rewards import group_reward, user_reward
from rlhf_jax.cli.verdicts import (
    ANCHORED,
    anchor_reward,
    has_verdicts,
    judge_compare,
    open_verdicts,
)
from rlhf_jax.recipes import Task, text_task, verdict_reward
from rlhf_jax.rewards import (
    ComparePairs,
    hindsight_pairs,
    load_outcomes,
    make_compare,
    make_reward,
    record_score,
    sigmoid_reward,
)
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import TextReward

SIGMOID = "sigmoid_of"  # of any other reward


def scored_task(
    specs: Sequence[str],
    records: Sequence[dict],
    *,
    heldout: float,
    costs: Mapping[str, str] = MappingProxyType({}),
) -> Task:
    """The records' prompts, and the weighted sum of the rewards.

    Args:
      specs: as of `named_reward`. heldout: share of the prompts, the last ones.
      costs: name -> spec, scored and not in the sum.

    Raises:
      UserError: a reward that cannot be made, or two with one name.
    """
    rewards: dict[str, TextReward] = {}
    wanted: dict[str, str] = {}
    weights: dict[str, float] = {}
    for spec in specs:
        weight, name, reward, column = named_reward(spec)
        if name in rewards:
            raise UserError(f"--reward: two rewards are called {name!r}; give one another name")
        rewards[name], weights[name] = reward, weight
        wanted |= {} if column is None else {name: column}
    for name, spec in costs.items():
        weight, _, reward, column = named_reward(spec)
        if name in rewards:
            raise UserError(f"--cost: a reward is called {name!r} too; give one another name")
        rewards[name] = partial(_times, weight, reward)
        wanted |= {} if column is None else {name: column}
    with reading_input():
        score = record_score(rewards, records, wanted=wanted)
    count = heldout_count(heldout, len(records))
    prompts = [row["prompt"] for row in records]
    task = text_task(prompts, _unused, objective=weights, heldout=count)
    return task._replace(score=score)


def heldout_count(share: float, total: int) -> int:
    """How many of the prompts, the last ones, are not trained on: one at least."""
    return min(max(1, round(share * total)), max(1, total - 1))


def named_reward(spec: str) -> tuple[float, str, TextReward, str | None]:
    """(weight, name, reward, column that it needs) of `[WEIGHT*]REWARD`.

    Raises:
      UserError: a weight that is no number, or a reward that cannot be made.
    """
    weight, what = weighed(spec)
    kind, _, rest = what.partition(":")
    try:
        check_range("(-inf, inf)", **{f"the weight of {spec!r}": weight})
        if kind in STEPWISE:
            lab, reward = open_stepwise(Path(rest), kind)
            return weight, kind, model_score(lab, reward.params), None
        if kind == HEAD:
            name, folder = head_and_folder(rest)
            return weight, name, head_score(name, folder), None
        if kind == RATING:
            name, folder = head_and_folder(rest, RATING)
            return weight, name, rating_score(name, folder), None
        if kind == IMPLICIT:
            return weight, kind, model_score(*open_implicit(rest)), None
        if kind in ENSEMBLES:
            return weight, kind, ensemble_score(kind, rest), None
        if kind == SCALED:
            return weight, scaled_name(rest), scaled_score(rest), None
        if kind in BY_USER:
            return weight, kind, *user_reward(rest, kind)
        if kind == BY_GROUP:
            return weight, *group_reward(rest), None
        if kind == SIGMOID:
            _, name, reward, column = named_reward(rest)
            return weight, name, sigmoid_reward(reward), column
        if kind in COMBINED_PRINCIPLES:
            return weight, *principle_reward(kind, rest)
        if kind == RULE and rest:
            return weight, kind, rule_reward(rest), "label"
        if has_features(Path(what)):
            return weight, Path(what).name, feature_reward(Path(what), named_reward), None
        if kind == "verdict":
            return weight, kind, verdict_reward(column=rest or "label"), rest or "label"
        if kind in ANCHORED:
            return weight, kind, anchor_reward(open_verdicts(Path(rest)), kind), "answer"
        if kind == GAP:
            return weight, kind, gap_reward(open_gaps(Path(rest))), "reference"
        if Path(what).is_dir():
            return weight, Path(what).name, model_score(*open_reward(Path(what))), None
        return weight, *make_reward(what)
    except ValueError as error:
        raise UserError(str(error)) from error


def _times(
    weight: float, reward: TextReward, prompts: Any, answers: Sequence[str], **columns: Any
) -> list[float | None]:
    """Weighted scores; None stays None."""
    found = reward(prompts, answers, **columns)
    return [None if score is None else weight * score for score in found]


def weighed(spec: str) -> tuple[float, str]:
    """The weight of a reward, 1 by default, and the rest of its text."""
    before, star, rest = spec.partition("*")
    return (float(before), rest) if star and is_number(before) else (1.0, spec)


def named_compare(spec: str | None) -> ComparePairs | None:
    """The judge of --judge, which may be the folder of a pairwise one; None without one.

    Raises:
      UserError: a judge that cannot be made.
    """
    if spec is None:
        return None
    if has_verdicts(Path(spec)):
        return judge_compare(open_verdicts(Path(spec)))
    if (judge := folder_judge(spec)) is not None:
        return judge
    if Path(spec).is_dir():
        raise UserError(
            f"--judge {spec}: the folder has no pairwise judge; of a language model write "
            f"binary:{spec} or graded:{spec}"
        )
    with reading_input():
        return make_compare(spec)


def scoring_compare(scoring: Scoring) -> ComparePairs | None:
    """The judge of --judge, which reads the outcomes of --outcomes; None without a judge.

    Raises:
      UserError: a judge or a simulator that cannot be made, or outcomes and no judge.
    """
    compare = named_compare(scoring.judge)
    if scoring.outcomes is None:
        return compare
    if compare is None:
        raise UserError("--outcomes are for a judge to read: give one by --judge")
    with reading_input():
        return hindsight_pairs(compare, load_outcomes(scoring.outcomes))


def absolute_scorer(spec: str) -> str:
    """The scorer with whole paths, so that what names it can be read from anywhere."""
    kind, _, rest = spec.partition(":")
    if Path(spec).is_dir():
        return str(Path(spec).resolve())
    if kind == SIGMOID:
        return f"{kind}:{absolute_scorer(rest)}"
    if kind.endswith(".py"):
        return f"{Path(kind).resolve()}:{rest}"
    if kind == "program":
        return f"{kind}:{Path(rest).resolve()}"
    if kind in (HEAD, RATING):
        name, folder = head_and_folder(rest, kind)
        return f"{kind}:{name},{folder.resolve()}"
    if kind in (*STEPWISE, *ENSEMBLES, SCALED, *BY_USER, BY_GROUP, *ANCHORED, GAP, RULE):
        words = [str(Path(x).resolve()) if Path(x).exists() else x for x in rest.split(",")]
        return f"{kind}:{','.join(words)}"
    if kind in COMBINED_PRINCIPLES:
        folder, mark, names = rest.partition("#")
        return f"{kind}:{Path(folder).resolve()}{mark}{names}"
    return spec


def _unused(prompts: list[str], answers: Sequence[str]) -> Mapping[str, Sequence[Any]]:
    return {}
