"""Sums over the lists of the shop, answered step by step, with the truth of every step.

Three kinds of tasks: the total of two or three prices, the change from a note, and the pair of two
products of two lists with the most stars within a budget. A worked answer states a price, adds,
compares, and ends in `answer : ...`; an error in a step is carried on, so the later steps follow
from it and are wrong all the same. `score_sum` gives two verdicts for each step of any text: is it
right, and does it follow from what was said before. That is what process rewards, outcome rewards
and judges of a chain of reasoning are measured against. The number of steps of the shortest right
answer is the difficulty of a task.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import NamedTuple

from rlhf_jax.envs.shop.catalogue import PRICES, Product
from rlhf_jax.envs.shop.shelves import Shelf, and_list, make_second_shelf, make_shelf
from rlhf_jax.envs.shop.sum_steps import STEPS, SumTask, score_sum

SUM_KINDS = ("total", "change", "pair")
MAX_SUM = 180
NOTES = (50, 100)
QUESTIONS = {
    "total": "what do {names} cost together ?",
    "change": "i pay with a note of {num} dollars for {name} , what do i get back ?",
    "pair": "i want a {cat} and a {other} for at most {num} dollars , with the most stars .",
}
TEMPLATES = (
    *QUESTIONS.values(), *STEPS.values(), "task : work :", " ".join(map(str, range(0, 210, 10)))
)  # fmt: skip


def sum_task(seed: int, index: int) -> SumTask:
    """The task with this index, a function of (seed, index) only; no two have equal texts."""
    rng = Random(f"sum/{seed}/{index}")
    kind = rng.choice(SUM_KINDS)
    shelf = make_shelf(seed, index, rng, (2,) if kind == "pair" else (3,), sold=0.0)
    if kind == "pair":
        return _pair_task(rng, shelf)
    if kind == "change":
        note = rng.choice(NOTES)
        payable = [p for p in shelf.products if p.price <= note]
        if payable:
            one = rng.choice(payable)
            question = QUESTIONS[kind].format(num=note, name=one.name)
            back = str(note - one.price)
            return _task("change", (shelf,), (one.name,), note, (back,), question)
    chosen = rng.sample(shelf.products, rng.choice((2, 3)))
    if sum(each.price for each in chosen) > MAX_SUM - 20:
        chosen = chosen[:2]
    names = tuple(each.name for each in chosen)
    total = str(sum(each.price for each in chosen))
    question = QUESTIONS["total"].format(names=and_list(names))
    return _task("total", (shelf,), names, 0, (total,), question)


def sum_answer(task: SumTask, *, wrong: int | None = None, seed: int = 0) -> str:
    """A worked answer whose step `wrong` has an error; the steps after it are carried on from it.

    Args:
      task: the sum.
      wrong: a step, 0 <= wrong < task.difficulty; None for the right answer.
      seed: of the error.
    Raises:
      ValueError: wrong out of range.
    """
    if wrong is not None and not 0 <= wrong < task.difficulty:
        raise ValueError(f"wrong step {wrong} is out of range; use 0 <= wrong < {task.difficulty}")
    pen = _Pen(Random(f"sum_answer/{seed}/{wrong}/{task.text}"), wrong, [])
    _WORK[task.kind](task, pen)
    return " ".join(pen.lines)


def examples(seed: int, count: int) -> list[str]:
    """Tasks with a worked answer, every second of them with an error, as a page prints them."""
    found = []
    for index in range(count):
        task = sum_task(seed, index)
        wrong = index % task.difficulty if index % 2 else None
        text = sum_answer(task, wrong=wrong, seed=seed)
        scored = score_sum(task, text)
        marks = " ".join("right" if step.right else "wrong" for step in scored.steps)
        found.append(f"{task.text} {text}\n  steps: {marks}; final right: {scored.right}")
    return found


class _Pen(NamedTuple):
    """Writes the steps of an answer and makes its one error."""

    rng: Random
    wrong: int | None
    lines: list[str]

    def slips(self) -> bool:
        """Whether the next step has the error."""
        return len(self.lines) == self.wrong

    def number(self, value: int, choices: tuple[int, ...]) -> int:
        """The value, or another one near it if the next step has the error."""
        near = [each for each in choices if 0 < abs(each - value) <= 20]
        return self.rng.choice(near) if self.slips() else value

    def write(self, kind: str, *parts: object) -> None:
        """One step."""
        text = STEPS[kind].replace("{name}", "{}").replace("{num}", "{}")
        self.lines.append(text.format(*parts))

    def price(self, task: SumTask, name: str, most: int = PRICES[-1]) -> int:
        """The step that states a price; an error stays below `most`."""
        value = self.number(task.price(name), tuple(each for each in PRICES if each <= most))
        self.write("price", name, value)
        return value

    def add(self, a: int, b: int) -> int:
        """The step that adds."""
        value = self.number(a + b, tuple(range(10, MAX_SUM + 10, 10)))
        self.write("add", a, b, value)
        return value

    def end(self, value: int) -> None:
        """The last step of a number."""
        self.write("number", self.number(value, tuple(range(0, MAX_SUM + 10, 10))))


def _work_total(task: SumTask, pen: _Pen) -> None:
    """Prices, added one after the other."""
    total = pen.price(task, task.names[0])
    for name in task.names[1:]:
        total = pen.add(total, pen.price(task, name))
    pen.end(total)


def _work_change(task: SumTask, pen: _Pen) -> None:
    """The note minus the price."""
    price = pen.price(task, task.names[0], task.limit)
    back = pen.number(task.limit - price, tuple(range(0, 110, 10)))
    pen.write("minus", task.limit, price, back)
    pen.end(back)


def _work_pair(task: SumTask, pen: _Pen) -> None:
    """The pairs from the most stars down, until one is within the budget."""
    for a, b in _pairs(task.shelves):
        total = pen.add(pen.price(task, a.name), pen.price(task, b.name))
        within = (total <= task.limit) != pen.slips()
        pen.write("within" if within else "beyond", total, task.limit)
        if within:
            names = (a.name, b.name)
            if pen.slips():
                names = tuple(product.name for product in task.shelves[0].products)
            pen.write("names", *names)
            return
    pen.write("none")


_WORK: dict[str, Callable[[SumTask, _Pen], None]] = {
    "total": _work_total,
    "change": _work_change,
    "pair": _work_pair,
}


def _pairs(shelves: tuple[Shelf, ...]) -> list[tuple[Product, Product]]:
    """One product of each list, the most stars together first."""
    pairs = [(a, b) for a in shelves[0].products for b in shelves[1].products]
    return sorted(pairs, key=lambda pair: -pair[0].stars - pair[1].stars)


def _pair_task(rng: Random, first: Shelf) -> SumTask:
    """Two lists and a budget that some pair meets."""
    shelves = (first, make_second_shelf(rng, first, 2))
    pairs = _pairs(shelves)
    a, b = rng.choice(pairs)
    limit = min(a.price + b.price + rng.choice((0, 10, 20)), MAX_SUM)
    payable = [(a, b) for a, b in pairs if a.price + b.price <= limit]
    stars = payable[0][0].stars + payable[0][1].stars
    answers = tuple(f"{a.name} and {b.name}" for a, b in payable if a.stars + b.stars == stars)
    question = QUESTIONS["pair"].format(
        cat=shelves[0].category, other=shelves[1].category, num=limit
    )
    return _task("pair", shelves, (), limit, answers, question)


def _task(
    kind: str,
    shelves: tuple[Shelf, ...],
    names: tuple[str, ...],
    limit: int,
    answers: tuple[str, ...],
    question: str,
) -> SumTask:
    """The task with its text and its difficulty."""
    text = " ".join([*(shelf.text for shelf in shelves), "task :", question, "work :"])
    task = SumTask(text, kind, shelves, names, limit, answers, 0)
    return replace(task, difficulty=sum_answer(task).count(" ."))
