"""Look-up drills: catalogue lines, a question about them, and its one right answer.

A base model that has read drills knows the lists of the shop: prices, stars, features that are yes,
no or unknown, what is sold out, what is cheapest, which products meet a wish. It has not seen one
answer of an assistant. Drills are therefore the data for pretraining, and a general skill that a
later training may damage: `probe` gives drills from indices that `drill` never uses, and
`probe_right` says whether a text answers one, in whatever words. The price of an alignment method
in general skill is the fall of that share.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from rlhf_jax.envs.shop.catalogue import DISTINCT_PROMPTS, NAMES, PRICES, STARS, Product
from rlhf_jax.envs.shop.fluency import ngrams
from rlhf_jax.envs.shop.shelves import Shelf, and_list, make_shelf, product_line

PROBE_START = DISTINCT_PROMPTS // 2  # the first index of the probes
QUESTIONS = {
    "price": "what does {name} cost ?",
    "stars": "how many stars does {name} have ?",
    "feature": "is {name} {a} ?",
    "stock": "is {name} sold out ?",
    "cheapest": "which {cat} is cheapest ?",
    "dearest": "which {cat} costs the most ?",
    "best": "which {cat} has the most stars ?",
    "with_stars": "who has {num} stars ?",
    "with_feature": "which are {a} ?",
    "count_sold": "how many are sold out ?",
    "count_feature": "how many are {a} ?",
    "names": "copy all names in order .",
    "line": "copy the line of {name} .",
    "cheaper": "which is cheaper , {name} or {name} ?",
    "fits": "which {cat} in stock is {a} and costs at most {num} dollars ?",
}
DRILL_KINDS = tuple(QUESTIONS)
ANSWERS = (
    "{name} costs {num} dollars .", "{name} has {num} stars .", "yes , {name} is {a} .",
    "no , {name} is not {a} .", "unknown : the list does not say .",
    "yes , {name} is sold out .", "no , {name} is in stock .", "none .", "{num} .",
    "both cost the same .",
)  # fmt: skip
FRAME = "{shelf} question : {question} answer :"
TEMPLATES = (*QUESTIONS.values(), *ANSWERS, "question : answer :", "0 1 2 3 4")
_YES_NO = frozenset({"yes", "no", "unknown"})


@dataclass(frozen=True)
class Drill:
    """A question about some catalogue lines.

    kind: one of DRILL_KINDS. question: the lines and the question, up to `answer :`. answer: the
    right answer. key: the words that make it right (see `probe_right`).
    """

    kind: str
    question: str
    answer: str
    key: tuple[str, ...]

    @property
    def text(self) -> str:
        """Question and answer."""
        return f"{self.question} {self.answer}"


class _Asked(NamedTuple):
    """The question, its answer, and the key words of the answer."""

    question: str
    answer: str
    key: tuple[str, ...]


def drill(seed: int, index: int) -> Drill:
    """The drill with this index, a function of (seed, index) only; no two have equal texts.

    Args:
      seed: the world.
      index: 0 <= index < PROBE_START.
    Raises:
      ValueError: index out of range.
    """
    _check_index(index)
    return _drill(seed, index)


def probe(seed: int, index: int) -> Drill:
    """A held-out drill: its lines occur in no drill of this seed.

    Args:
      seed: the world.
      index: 0 <= index < PROBE_START.
    Raises:
      ValueError: index out of range.
    """
    _check_index(index)
    return _drill(seed, PROBE_START + index)


def probe_right(asked: Drill, text: str) -> bool:
    """Whether the first sentence of a text gives the right answer.

    Only words of the kind that was asked for count: numbers, names, or yes, no and unknown. They
    must be those of the answer and no others, so guessing several is wrong, and so is a sentence
    with four words in a row from the question. Copies must be exact.

    Args:
      asked: the drill. text: any string.
    """
    words = _first_sentence(text.lower().split())
    if asked.kind in ("names", "line"):
        return words == asked.answer.split()
    if not set(ngrams(asked.question.split(), 4)).isdisjoint(ngrams(words, 4)):
        return False
    if asked.kind in ("price", "stars", "count_sold", "count_feature"):
        return {word for word in words if word.isdecimal()} == set(asked.key)
    if asked.kind in ("feature", "stock"):
        said = {word for word in words if word in _YES_NO}
        return said == set(asked.key)
    if asked.kind == "cheaper" and "same" in asked.key:
        return "same" in words or set(asked.key[1:]) <= set(words)
    found = {word for word in words if word in NAMES or word == "none"}
    return found == set(asked.key)


def examples(seed: int, count: int) -> list[str]:
    """Drills, as a page prints them."""
    return [drill(seed, index).text for index in range(count)]


def _check_index(index: int) -> None:
    """Refuses an index outside of the half."""
    if not 0 <= index < PROBE_START:
        raise ValueError(f"drill index {index} is out of range; use 0 <= index < {PROBE_START}")


def _first_sentence(words: list[str]) -> list[str]:
    """Up to and including the first full stop."""
    return words[: words.index(".") + 1] if "." in words else words


def _drill(seed: int, index: int) -> Drill:
    """The drill with this index of both halves."""
    rng = Random(f"drill/{seed}/{index}")
    shelf = make_shelf(seed, index, rng, sold=0.3)
    kind = rng.choice(DRILL_KINDS)
    asked = _ASKING[kind](rng, shelf, QUESTIONS[kind])
    question = FRAME.format(shelf=shelf.text, question=asked.question)
    return Drill(kind, question, asked.answer, asked.key)


def _named(question: str, names: list[str]) -> _Asked:
    """An answer that is a list of names."""
    key = tuple(names) if names else ("none",)
    return _Asked(question, f"{and_list(key)} .", key)


def _number(question: str, number: int) -> _Asked:
    """An answer that is a bare number."""
    return _Asked(question, f"{number} .", (str(number),))


def _price(rng: Random, shelf: Shelf, question: str) -> _Asked:
    one = rng.choice(shelf.products)
    answer = f"{one.name} costs {one.price} dollars ."
    return _Asked(question.format(name=one.name), answer, (str(one.price),))


def _stars(rng: Random, shelf: Shelf, question: str) -> _Asked:
    one = rng.choice(shelf.products)
    answer = f"{one.name} has {one.stars} stars ."
    return _Asked(question.format(name=one.name), answer, (str(one.stars),))


def _feature(rng: Random, shelf: Shelf, question: str) -> _Asked:
    one, feature = rng.choice(shelf.products), rng.choice(shelf.shown)
    answer, key = {
        True: (f"yes , {one.name} is {feature} .", "yes"),
        False: (f"no , {one.name} is not {feature} .", "no"),
        None: ("unknown : the list does not say .", "unknown"),
    }[one.shown_value(feature)]
    return _Asked(question.format(name=one.name, a=feature), answer, (key,))


def _stock(rng: Random, shelf: Shelf, question: str) -> _Asked:
    sold = [each for each in shelf.products if not each.in_stock]
    one = rng.choice(sold if sold and rng.random() < 0.5 else shelf.products)
    yes, no = f"yes , {one.name} is sold out .", f"no , {one.name} is in stock ."
    answer, key = (no, "no") if one.in_stock else (yes, "yes")
    return _Asked(question.format(name=one.name), answer, (key,))


def _top(shelf: Shelf, question: str, value: Callable[[Product], int]) -> _Asked:
    """The products of the highest value."""
    high = max(map(value, shelf.products))
    names = [each.name for each in shelf.products if value(each) == high]
    return _named(question.format(cat=shelf.category), names)


def _cheapest(_: Random, shelf: Shelf, question: str) -> _Asked:
    return _top(shelf, question, lambda each: -each.price)


def _dearest(_: Random, shelf: Shelf, question: str) -> _Asked:
    return _top(shelf, question, lambda each: each.price)


def _best(_: Random, shelf: Shelf, question: str) -> _Asked:
    return _top(shelf, question, lambda each: each.stars)


def _with_stars(rng: Random, shelf: Shelf, question: str) -> _Asked:
    there = tuple(each.stars for each in shelf.products)
    stars = rng.choice(there if rng.random() < 0.6 else STARS)
    return _named(
        question.format(num=stars), [each.name for each in shelf.products if each.stars == stars]
    )


def _having(shelf: Shelf, feature: str) -> list[str]:
    """Names of the products that are known to have a feature."""
    return [each.name for each in shelf.products if each.shown_value(feature)]


def _with_feature(rng: Random, shelf: Shelf, question: str) -> _Asked:
    feature = rng.choice(shelf.shown)
    return _named(question.format(a=feature), _having(shelf, feature))


def _count_sold(_: Random, shelf: Shelf, question: str) -> _Asked:
    return _number(question, sum(not each.in_stock for each in shelf.products))


def _count_feature(rng: Random, shelf: Shelf, question: str) -> _Asked:
    feature = rng.choice(shelf.shown)
    return _number(question.format(a=feature), len(_having(shelf, feature)))


def _names(_: Random, shelf: Shelf, question: str) -> _Asked:
    names = tuple(each.name for each in shelf.products)
    return _Asked(question, " ".join([*names, "."]), names)


def _line(rng: Random, shelf: Shelf, question: str) -> _Asked:
    one = rng.choice(shelf.products)
    line = product_line(one, shelf.shown)
    return _Asked(question.format(name=one.name), line, tuple(line.split()))


def _cheaper(rng: Random, shelf: Shelf, question: str) -> _Asked:
    a, b = rng.sample(shelf.products, 2)
    question = question.replace("{name}", a.name, 1).replace("{name}", b.name, 1)
    if a.price == b.price:
        return _Asked(question, "both cost the same .", ("same", a.name, b.name))
    return _named(question, [min(a, b, key=lambda each: each.price).name])


def _fits(rng: Random, shelf: Shelf, question: str) -> _Asked:
    feature, budget = rng.choice(shelf.shown), rng.choice(PRICES[3:])
    names = [
        each.name
        for each in shelf.products
        if each.in_stock and each.price <= budget and each.shown_value(feature)
    ]
    return _named(question.format(cat=shelf.category, a=feature, num=budget), names)


_ASKING: dict[str, Callable[[Random, Shelf, str], _Asked]] = {
    "price": _price,
    "stars": _stars,
    "feature": _feature,
    "stock": _stock,
    "cheapest": _cheapest,
    "dearest": _dearest,
    "best": _best,
    "with_stars": _with_stars,
    "with_feature": _with_feature,
    "count_sold": _count_sold,
    "count_feature": _count_feature,
    "names": _names,
    "line": _line,
    "cheaper": _cheaper,
    "fits": _fits,
}
