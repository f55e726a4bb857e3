"""Directional preference alignment (DPA): one policy for every trade-off between several rewards.

    task = directed_task(task, direction_grid(9, 45.0))   # of a task with an objective of two
    reward, rows = task_reward(lab, task), prompt_rows(task, batch_size=16, seed=0)
    params = online(stage, lab, task, best_of(lab, samples=8), reward, sft, rows, fit, key=key)

Each prompt ends with the weights of a direction, as numerals: "... weights : helpful 80 short -60".
An answer is worth the sum of its rewards with these weights, so that any recipe that takes a task
trains a policy that reads them; with `best_of` it is the paper's rejection sampling. A user then
asks for a trade-off by writing other weights, see `read_direction`.

Reference: Wang et al. 2024, arXiv:2402.18571.
Departs: the weights stand at the end of the prompt and not in the system prompt, so that it is the
beginning of a long prompt that is cut; directions are a grid and not drawn.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from rlhf_jax.checks import check_range
from rlhf_jax.ops.directions import check_directions
from rlhf_jax.recipes.principles import asked_prompt
from rlhf_jax.recipes.task import Task, check_single_turn
from rlhf_jax.training import UserError

DIRECTED = "directed"  # the name of v . r among the scores of a task
TEMPLATE = "{prompt} weights : {principle}"
WHOLE = 100  # the numeral of 1


def direction_grid(count: int, angle: float) -> Float[np.ndarray, "D 2"]:
    """Directions at equal steps from -angle to angle, degrees from the first reward.

    >>> direction_grid(3, 45.0).round(3).tolist()
    [[0.707, -0.707], [1.0, 0.0], [0.707, 0.707]]

    Args:
      count: D >= 1. angle: in (0, 90]; the paper's is 45.
    """
    check_range("[1, inf)", count=count)
    check_range("(0, 90]", angle=angle)
    angles = np.radians(np.linspace(-angle, angle, count) if count > 1 else np.zeros(1))
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def write_direction(names: Sequence[str], direction: Float[np.ndarray, " k"]) -> str:
    """The weights of a direction as whole numbers, 100 for 1.

    >>> write_direction(["helpful", "short"], np.array([0.8, -0.6]))
    'helpful 80 short -60'

    Raises:
      ValueError: a direction that is no unit vector, or of another number of rewards.
      UserError: names that are not different words.
    """
    _check_names(names)
    check_directions(direction, rewards=len(names))
    numerals = np.rint(WHOLE * np.asarray(direction)).astype(int).tolist()
    return " ".join(f"{name} {number}" for name, number in zip(names, numerals, strict=True))


def read_direction(text: str, names: Sequence[str]) -> Float[np.ndarray, " k"]:
    """The unit vector of the weights at the end of a text.

    >>> read_direction("2 + 2 ? weights : helpful 80 short -60", ["helpful", "short"]).tolist()
    [0.8, -0.6]

    Raises:
      UserError: the text does not end with the weights of these names, or their squares do not sum
        to 100^2 up to rounding.
    """
    _check_names(names)
    pattern = r"\s+".join(rf"{re.escape(name)}\s+(-?\d+)" for name in names)
    found = re.search(rf"(?:^|\s){pattern}\s*$", text)
    if found is None:
        wanted = " ".join(f"{name} N" for name in names)
        raise UserError(f"the text must end with {wanted!r}, whole numbers N, got {text[-60:]!r}")
    numerals = np.array([int(number) for number in found.groups()], float)
    length = float(np.linalg.norm(numerals))
    # Every entry is rounded by at most a half.
    if abs(length - WHOLE) > 0.5 * np.sqrt(len(names)):
        raise UserError(
            f"the weights {[int(x) for x in numerals]} must be a unit vector times {WHOLE}: the "
            f"root of the sum of their squares is {length:.1f}"
        )
    return numerals / length


def directed_prompt(prompt: Any, weights: str) -> Any:
    """The prompt with the weights of `write_direction` at its end; of messages, in the last one.

    >>> directed_prompt("2 + 2 ?", "helpful 80 short -60")
    '2 + 2 ? weights : helpful 80 short -60'
    """
    return asked_prompt(prompt, weights, template=TEMPLATE)


def directed_task(
    task: Task, directions: Float[np.ndarray, "D k"], *, names: Sequence[str] = ()
) -> Task:
    """The task with every prompt in D directions, and v . r as what is maximised.

    Prompt n in direction d is number n D + d, in the split of n. The score "directed" is v . r of
    the weights that the prompt shows, which are rounded; the others keep their names.

    Args:
      task: its objective is the k rewards in the order of the directions, each with the number > 0
        it is multiplied by: give 1 / spread to rewards of different scales.
      directions: unit vectors. Each is written differently.
      names: of the rewards in the prompts, those of the objective if empty.
    Raises:
      UserError: an objective of another number of rewards, or a factor that is not > 0; a task with
        a step; two directions that are written alike.
      ValueError: directions that are no unit vectors.
    """
    check_single_turn(task, "directed_task")
    factors = {task.objective: 1.0} if isinstance(task.objective, str) else dict(task.objective)
    directions = np.asarray(directions, float)
    scored, size = list(factors), directions.shape[-1]
    if len(scored) != size:
        raise UserError(f"directions have {size} entries, and the objective is of {scored}")
    names = names or scored
    if min(factors.values()) <= 0:
        raise UserError(f"rewards are scaled by numbers > 0 before directions, got {factors}")
    texts = [write_direction(names, direction) for direction in directions]
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise UserError(f"two directions are both written {twice!r}: give fewer")
    shown = np.array([read_direction(text, names) for text in texts])
    count, scales = len(texts), np.array(list(factors.values()))

    def directed_texts(indices: np.ndarray) -> list[Any]:
        numbers = np.asarray(indices)
        return [
            directed_prompt(prompt, texts[d])
            for prompt, d in zip(task.texts(numbers // count), numbers % count, strict=True)
        ]

    def score(indices: np.ndarray, answers: Sequence[str]) -> Mapping[str, Any]:
        numbers = np.asarray(indices)
        found = {} if task.score is None else task.score(numbers // count, answers)
        paid = directed_scores(found, scored, scales * shown[numbers % count])
        return {**found, DIRECTED: paid.tolist()}

    return task._replace(
        texts=directed_texts,
        splits={
            name: range(part.start * count, part.stop * count) for name, part in task.splits.items()
        },
        score=score,
        objective=DIRECTED,
        teacher=None,
    )


def directed_scores(
    scores: Mapping[str, Any], names: Sequence[str], weights: Float[np.ndarray, "N k"]
) -> Float[np.ndarray, " N"]:
    """v . r of N answers; NaN where one of the rewards is None or NaN.

    Args:
      scores: name -> one number per answer. weights: v of each answer's prompt.
    Raises:
      UserError: a reward that is not among the scores, or of another number of answers.
    """
    rows = []
    for name in names:
        if name not in scores:
            raise UserError(
                f"directions are of {list(names)}, and the task gives no {name!r}; it gives "
                f"{sorted(scores)}"
            )
        rows.append(np.asarray(scores[name], float))
        if rows[-1].shape != weights.shape[:1]:
            raise UserError(
                f"the reward {name!r} must be {len(weights)} numbers, one for each answer, got "
                f"shape {rows[-1].shape}"
            )
    return np.sum(weights * np.stack(rows, axis=-1), axis=-1)


def _check_names(names: Sequence[str]) -> None:
    """UserError unless they are different words."""
    if any(name.split() != [name] for name in names) or len(set(names)) < len(names):
        raise UserError(f"rewards with directions need different names of one word, got {names}")
