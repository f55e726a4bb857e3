"""Reading worked sums: the forms of a step, and whether a step is right and follows."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from rlhf_jax.envs.shop.shelves import Shelf

STEPS = {
    "price": "{name} costs {num} .",
    "add": "{num} and {num} make {num} .",
    "minus": "{num} minus {num} is {num} .",
    "within": "{num} is at most {num} .",
    "beyond": "{num} is more than {num} .",
    "number": "answer : {num} dollars .",
    "names": "answer : {name} and {name} .",
    "none": "answer : no pair .",
}
_ENDS = ("number", "names", "none")
_FORMS = {
    kind: re.compile(re.escape(text).replace(r"\{num\}", r"(\d+)").replace(r"\{name\}", r"(\w+)"))
    for kind, text in ((kind, text.removesuffix(" .")) for kind, text in STEPS.items())
}


@dataclass(frozen=True)
class SumTask:
    """A sum with its truth.

    text: lists and question, up to `work :`. kind: one of SUM_KINDS. shelves: one or two lists.
    names: the products that the question names. limit: the note or the budget, else 0.
    answers: every right end, a number or a pair of names. difficulty: steps of a right answer.
    """

    text: str
    kind: str
    shelves: tuple[Shelf, ...]
    names: tuple[str, ...]
    limit: int
    answers: tuple[str, ...]
    difficulty: int

    def price(self, name: str) -> int:
        """The price of a product; -1 if no list has it."""
        found = [p.price for shelf in self.shelves for p in shelf.products if p.name == name]
        return found[0] if found else -1


class StepVerdict(NamedTuple):
    """A step of a worked answer in text[start:end].

    kind: a key of STEPS, or `other`. right: it is true. follows: it is true of the numbers that the
    answer itself stated before; a price follows if it is right.
    """

    start: int
    end: int
    kind: str
    right: bool
    follows: bool


class SumScore(NamedTuple):
    """steps: a verdict for each sentence. first_error: the first step that is not right, -1 if
    none. right: the text ends in a right answer."""

    steps: tuple[StepVerdict, ...]
    first_error: int
    right: bool


def score_sum(task: SumTask, text: str) -> SumScore:
    """The verdicts on any text as a worked answer.

    Args:
      task: the sum. text: sentences that end in ` .`; those of other forms than STEPS have the kind
        `other` and count as neither right nor wrong.
    """
    said = _Said([(task.limit, True)] if task.limit else [], [], [""])
    steps, start = [], 0
    for sentence in re.split(r"(?<= \.) ", text):
        kind, parts = _read(sentence.removesuffix(" ."))
        right, follows = _judge(task, kind, parts, said)
        steps.append(StepVerdict(start, start + len(sentence), kind, right, follows))
        start += len(sentence) + 1
    wrong = [i for i, step in enumerate(steps) if step.kind != "other" and not step.right]
    final = bool(steps) and steps[-1].kind in _ENDS and steps[-1].right
    return SumScore(tuple(steps), wrong[0] if wrong else -1, final)


class _Said(NamedTuple):
    """What a worked answer has stated so far: numbers with their truth, the products with
    a price, and in `last` the number or the comparison just made."""

    numbers: list[tuple[int, bool]]
    priced: list[str]
    last: list[str]

    def state(self, number: int, right: bool) -> None:
        """A number that later steps may use."""
        self.numbers.append((number, right))
        self.last[0] = str(number)

    def used(self, *operands: int) -> list[bool] | None:
        """The truth of the latest statements of the operands; None if one was never stated."""
        left, truths = list(self.numbers), []
        for operand in reversed(operands):
            found = [pair for pair in left if pair[0] == operand]
            if not found:
                return None
            left.reverse()
            left.remove(found[-1])
            left.reverse()
            truths.append(found[-1][1])
        return truths


def _read(sentence: str) -> tuple[str, tuple[str, ...]]:
    """The kind of a step, and its names and numbers."""
    for kind, form in _FORMS.items():
        match = form.fullmatch(sentence)
        if match:
            return kind, match.groups()
    return "other", ()


def _judge(task: SumTask, kind: str, parts: tuple[str, ...], said: _Said) -> tuple[bool, bool]:
    """(right, follows) of a step; what it says is added to `said`."""
    if kind == "price":
        right = int(parts[1]) == task.price(parts[0])
        said.priced.append(parts[0])
        said.state(int(parts[1]), right)
        return right, right
    if kind in ("add", "minus"):
        a, b, value = map(int, parts)
        used = said.used(a, b)
        follows = used is not None and (a + b if kind == "add" else a - b) == value
        right = follows and all(used or ())
        said.state(value, right)
        return right, follows
    if kind in ("within", "beyond"):
        value, limit = map(int, parts)
        used = said.used(value)
        holds = limit == task.limit and (value <= limit) == (kind == "within")
        said.last[0] = kind
        return holds and used is not None and all(used), holds and used is not None
    if kind == "number":
        value = str(int(parts[0]))
        return value in task.answers, value == said.last[0]
    if kind == "names":
        answers = [set(answer.split(" and ")) for answer in task.answers]
        follows = said.last[0] == "within" and set(parts) == set(said.priced[-2:])
        return set(parts) in answers, follows
    return False, kind == "none" and said.last[0] == "beyond"
