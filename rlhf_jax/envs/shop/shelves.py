"""Shelves: a few catalogue lines as plain text, for tasks that ask about the lines themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from rlhf_jax.envs.shop.catalogue import (
    CATEGORIES,
    NAMES,
    PRICES,
    STARS,
    Product,
    coded_rows,
    make_products,
)


@dataclass(frozen=True)
class Shelf:
    """Some products of one category.

    text: `shop : ` and a line for each product. shown: the features that the lines list.
    """

    text: str
    category: str
    shown: tuple[str, ...]
    products: tuple[Product, ...]


def product_line(product: Product, shown: tuple[str, ...]) -> str:
    """The catalogue line of a product, with the full stop."""
    words = [f"{product.name} {product.price} dollars {product.stars} stars"]
    for feature in shown:
        value = {True: "yes", False: "no", None: "unknown"}[product.shown_value(feature)]
        words.append(f"{feature} {value}")
    words.append("." if product.in_stock else "sold out .")
    return " ".join(words)


def make_shelf(
    seed: int, index: int, rng: Random, counts: tuple[int, ...] = (2, 3, 4), *, sold: float = 0.2
) -> Shelf:
    """A shelf whose first two rows are one to one in the index: no two indices have equal texts.

    Args:
      seed, index: as for `make_prompt`; the rows are those of the prompt with this index.
      rng: draws everything else.
      counts: possible numbers of products, at least 2 each.
      sold: probability of a product to be sold out.
    """
    return _fill(rng, tuple(CATEGORIES), coded_rows(seed, index), rng.choice(counts), sold)


def make_second_shelf(rng: Random, first: Shelf, count: int) -> Shelf:
    """A shelf of another category with other names, all in stock."""
    taken = {product.name for product in first.products}
    names = rng.sample([name for name in NAMES if name not in taken], count)
    rows = [(name, rng.choice(PRICES), rng.choice(STARS)) for name in names]
    others = tuple(category for category in CATEGORIES if category != first.category)
    return _fill(rng, others, rows, count, 0.0)


def _fill(
    rng: Random,
    categories: tuple[str, ...],
    rows: Sequence[tuple[str, int, int]],
    count: int,
    sold: float,
) -> Shelf:
    """A shelf with these first rows."""
    category = rng.choice(categories)
    shown = tuple(rng.sample(CATEGORIES[category], 2))
    products = make_products(rng, list(rows), category, shown, count)
    products = tuple(replace(each, in_stock=rng.random() >= sold) for each in products)
    lines = [product_line(product, shown) for product in products]
    return Shelf(" ".join(["shop :", *lines]), category, shown, products)


def and_list(words: list[str] | tuple[str, ...]) -> str:
    """`a`, `a and b`, `a , b and c`."""
    head = " , ".join(words[:-1])
    return f"{head} and {words[-1]}" if head else words[-1]
