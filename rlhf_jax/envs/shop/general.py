"""General text of the shop: statements about products, talk about the weather, news, word boards.

A base model needs prose besides drills, or its language is one of lists. `general_text` gives short
passages: facts about the products of one shelf (all true of it), two people who talk, news of the
shop, and boards of words that are read out again. The boards draw from `words()`, so that every
word of the world has been seen before a training that needs it. No passage holds an answer of an
assistant.
"""

from collections.abc import Callable
from random import Random

from rlhf_jax.envs.shop.catalogue import CATEGORIES, FEATURES, NAMES, PRICES, STARS
from rlhf_jax.envs.shop.shelves import Shelf, make_shelf
from rlhf_jax.envs.shop.vocabulary import words
from rlhf_jax.envs.shop.weather import NEWS, SPEAKERS, STATEMENTS, TALK, WEATHER


def general_text(seed: int, index: int) -> str:
    """A passage of 20 to 110 words, a function of (seed, index) only."""
    rng = Random(f"general/{seed}/{index}")
    kind = rng.choice(tuple(_PASSAGES))
    return _PASSAGES[kind](rng, make_shelf(seed, index, rng))


def _facts(rng: Random, shelf: Shelf) -> str:
    """True statements about the products of a shelf, after its lines."""
    sentences = []
    for product in shelf.products:
        slots = {"name": product.name, "cat": shelf.category}
        feature = rng.choice(shelf.shown)
        value = {True: "yes", False: "no", None: "unknown"}[product.shown_value(feature)]
        facts = [("price", product.price), ("stars", product.stars), (value, 0)]
        facts += [] if product.in_stock else [("sold", 0)]
        sentences += [
            rng.choice(STATEMENTS[fact]).format(num=number, a=feature, **slots)
            for fact, number in rng.sample(facts, 2)
        ]
    return " ".join([shelf.text, *sentences])


def _talk(rng: Random, shelf: Shelf) -> str:
    """Two people who talk about the weather and a product."""
    speakers = rng.sample(SPEAKERS, 2)
    weather = rng.choice(WEATHER)
    lines = []
    for turn in range(rng.randrange(3, 6)):
        line = rng.choice(TALK).format(
            weather=weather, other=rng.choice(WEATHER), name=rng.choice(shelf.products).name,
            cat=shelf.category, a=rng.choice(shelf.shown),
        )  # fmt: skip
        lines.append(f"{speakers[turn % 2]} : {line}")
    return " ".join(lines)


def _news(rng: Random, _: Shelf) -> str:
    """News of the shop."""
    lines = [
        rng.choice(NEWS).format(
            cat=rng.choice(tuple(CATEGORIES)), name=rng.choice(NAMES), num=rng.choice(PRICES),
            a=rng.choice(FEATURES), weather=rng.choice(WEATHER), few=rng.choice(STARS),
        )
        for _ in range(rng.randrange(3, 6))
    ]  # fmt: skip
    return " ".join(["news of the shop :", *lines])


def _board(rng: Random, _: Shelf) -> str:
    """A board of words, read out again in the same order or from the end."""
    chosen = rng.sample(words(), rng.randrange(6, 17))
    if rng.random() < 0.5:
        return " ".join(["on the board :", *chosen, "read it :", *chosen, "end ."])
    return " ".join(["on the board :", *chosen, "read it from the end :", *chosen[::-1], "end ."])


def examples(seed: int, count: int) -> list[str]:
    """Passages, as a page prints them."""
    return [general_text(seed, index) for index in range(count)]


_PASSAGES: dict[str, Callable[[Random, Shelf], str]] = {
    "facts": _facts,
    "talk": _talk,
    "news": _news,
    "board": _board,
}
