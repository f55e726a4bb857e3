"""Looking up a sentence among the patterns of the assistant, slots read back from its words."""

from functools import lru_cache
from typing import NamedTuple

from rlhf_jax.envs.shop import requests
from rlhf_jax.envs.shop.catalogue import CATEGORIES, FEATURES, NAMES, NUMBER_WORDS, read_number
from rlhf_jax.envs.shop.explanations import STREETS
from rlhf_jax.envs.shop.phrases import PATTERNS

_SLOTS = {
    **dict.fromkeys(NAMES, "{name}"),
    **dict.fromkeys(FEATURES, "{a}"),
    **dict.fromkeys(CATEGORIES, "{cat}"),
    **dict.fromkeys(STREETS, "{street}"),
    **dict.fromkeys(NUMBER_WORDS.values(), "{num}"),
    **dict.fromkeys(("{yes}", "{no}", "{maybe}"), "{a}"),
    **dict.fromkeys(("{price}", "{stars}", "{house}"), "{num}"),
}


def slot(word: str) -> str:
    """The word, or the slot that it fills in the templates; all product names are one slot."""
    return "{num}" if word.isdecimal() else _SLOTS.get(word, word)


class Fact(NamedTuple):
    """A statement about a product, in words begin to end (exclusive) of a sentence: its attribute
    has this value, or, if in doubt, may have it."""

    begin: int
    end: int
    product: str
    attribute: str
    value: bool | int
    doubt: bool


class Match(NamedTuple):
    """A sentence of the grammar.

    kinds, topic: as in `phrases.Pattern`. names: products named, in order. category: the category
    named, or "". facts: statements; product "" stands for the subject of the sentence before.
    """

    kinds: tuple[str, ...]
    topic: str
    names: tuple[str, ...]
    category: str
    facts: tuple[Fact, ...]


_TABLE = {tuple(slot(word) for word in p.text.split()): p for p in PATTERNS}
KNOWN_WORDS = frozenset(
    word
    for text in (*requests.TEMPLATES, *(p.text for p in PATTERNS))
    for word in text.split()
    if not word.startswith("{")
).union(NAMES, FEATURES, CATEGORIES, STREETS, NUMBER_WORDS.values())


def pattern_keys() -> tuple[tuple[str, ...], ...]:
    """The slotted words of every pattern."""
    return tuple(_TABLE)


@lru_cache(maxsize=1 << 16)
def match(sentence: tuple[str, ...]) -> Match | None:
    """What a sentence of the grammar says; None if it is not in the grammar.

    A sentence that names a feature twice is not.

    Args:
      sentence: lower-case words with the end mark.
    """
    pattern = _TABLE.get(tuple(slot(word) for word in sentence))
    features = [word for word in sentence if word in FEATURES]
    if pattern is None or len(features) > len(set(features)):
        return None
    names = tuple(word for word in sentence if word in NAMES)
    category = next((word for word in sentence if word in CATEGORIES), "")
    subject = names[0] if names else ""
    facts = []
    for i, (word, place) in enumerate(zip(sentence, pattern.text.split(), strict=True)):
        fact = _fact(sentence, i, word, place)
        if fact is not None:
            facts.append(fact._replace(product=subject))
    if pattern.text.endswith("in stock ."):
        facts.append(Fact(len(sentence) - 3, len(sentence) - 1, subject, "stock", True, False))
    elif pattern.text.endswith("sold out ."):
        facts.append(Fact(len(sentence) - 3, len(sentence) - 1, subject, "stock", False, False))
    return Match(pattern.kinds, pattern.topic, names, category, tuple(facts))


def _fact(sentence: tuple[str, ...], i: int, word: str, place: str) -> Fact | None:
    """What the word in this slot states about the product, without its name."""
    if place in ("{price}", "{stars}"):
        return Fact(i, i + 2, "", place[1:-1], read_number(word) or 0, doubt=False)
    if place == "{no}":
        begin = max(j for j in range(i) if sentence[j] == "not")
        return Fact(begin, i + 1, "", word, value=False, doubt=False)
    if place in ("{yes}", "{maybe}"):
        return Fact(i, i + 1, "", word, value=True, doubt=place == "{maybe}")
    return None
