"""Errands: chains of one to eight look-ups, which an agent does by calling the shop's tool.

A customer says in words what to find out, one thing after the other; the agent writes one call for
each, `call price juno .`, and is done if the whole chain is right. All errands need the same few
skills (which words mean which call), so the difficulty is the length: with a chance a of one right
call, a chain of L is done with a^L. `score_errand` marks each call in three parts, form, attribute
and name, for rewards that are finer than success.
"""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from rlhf_jax.envs.shop.catalogue import FEATURES
from rlhf_jax.envs.shop.formats import read_tool_call, tool_call
from rlhf_jax.envs.shop.shelves import make_shelf

MAX_ERRAND = 8
WISHES = {
    "price": ("what {name} costs", "the price of {name}", "how many dollars {name} is"),
    "stars": ("how good {name} is", "the stars of {name}", "what buyers think of {name}"),
    "stock": ("whether {name} is left", "whether i can have {name} today", "the stock of {name}"),
    "feature": ("whether {name} is {a}", "how {a} {name} is"),
}
TEMPLATES = (
    *(form for forms in WISHES.values() for form in forms),
    "errand : please find out , then . work : call {a} {name}",
)


@dataclass(frozen=True)
class Errand:
    """What to find out: the text, up to `work :`, and the right calls, (attribute, name) each."""

    text: str
    steps: tuple[tuple[str, str], ...]

    @property
    def difficulty(self) -> int:
        """The number of calls."""
        return len(self.steps)


class CallMarks(NamedTuple):
    """Of one call: it has the form of a call; its attribute and its name are right. The last two
    are False if the form is."""

    form: bool
    attribute: bool
    name: bool


class ErrandScore(NamedTuple):
    """calls: marks for each step of the errand. done: every call is right and there is no other."""

    calls: tuple[CallMarks, ...]
    done: bool


def errand(seed: int, index: int, lengths: tuple[int, ...] = (1, 2, 3, 4, 6, 8)) -> Errand:
    """The errand with this index, a function of the arguments only.

    Args:
      seed: the world.
      index: as for `make_prompt`.
      lengths: possible numbers of calls, 1 to 8; a curriculum chooses them.
    Raises:
      ValueError: a length out of range.
    """
    if not lengths or not all(1 <= length <= MAX_ERRAND for length in lengths):
        raise ValueError(f"lengths must be between 1 and {MAX_ERRAND}, got {lengths}")
    rng = Random(f"errand/{seed}/{index}/{lengths}")
    shelf = make_shelf(seed, index, rng)
    wishes, steps = [], []
    for _ in range(rng.choice(lengths)):
        name, kind = rng.choice(shelf.products).name, rng.choice(tuple(WISHES))
        attribute = rng.choice(FEATURES) if kind == "feature" else kind
        wishes.append(rng.choice(WISHES[kind]).format(name=name, a=attribute))
        steps.append((attribute, name))
    return Errand(f"errand : please find out {' , then '.join(wishes)} . work :", tuple(steps))


def errand_answer(task: Errand) -> str:
    """The right calls."""
    return " ".join(tool_call(attribute, name) for attribute, name in task.steps)


def score_errand(task: Errand, text: str) -> ErrandScore:
    """The marks of any text as the work on an errand; its i-th sentence is the i-th call."""
    calls = [f"{call.strip()} ." for call in f" {text} ".split(" . ") if call.strip()]
    marks = []
    for i, (attribute, name) in enumerate(task.steps):
        read = read_tool_call(calls[i]) if i < len(calls) else None
        said = read or ("", "")
        marks.append(CallMarks(read is not None, said[0] == attribute, said[1] == name))
    return ErrandScore(tuple(marks), text.split() == errand_answer(task).split())


def examples(seed: int, count: int) -> list[str]:
    """Errands with their right calls, as a page prints them."""
    tasks = [errand(seed, index) for index in range(count)]
    return [f"{task.text} {errand_answer(task)}" for task in tasks]
