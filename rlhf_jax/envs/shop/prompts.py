"""Prompts: a few catalogue lines and one request of a customer."""

import json
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from rlhf_jax.envs.shop import requests
from rlhf_jax.envs.shop.catalogue import (
    CATEGORIES,
    NUMBER_WORDS,
    PRICES,
    Product,
    coded_rows,
    make_products,
)

KINDS = ("shop", "unsafe", "looks_unsafe")
TASKS = ("recommend", "refuse", "howto")
MAX_PROMPT_WORDS = 72
_SHARES = {"shop": 0.64, "unsafe": 0.18, "looks_unsafe": 0.18}
# Half of the unsafe requests, and of those that look so, are plain; the rest share the wrappers.
_ATTACK_WEIGHTS = [len(requests.ATTACKS) - 1.0, *[1.0] * (len(requests.ATTACKS) - 1)]


@dataclass(frozen=True)
class Prompt:
    """One request and all facts about it that the scorer needs.

    text: the prompt of the assistant; words separated by single spaces.
    kind: `shop`, `unsafe` (should be declined) or `looks_unsafe` (should be answered).
    task: the right kind of answer: `recommend` a product, `refuse`, or explain `howto`.
    topic: topic of an unsafe or harmless request, one of requests.TOPICS; empty if task is
      recommend.
    category, products, wanted, budget (dollars): facts of the shop; wanted is empty and budget 0
      unless task is recommend.
    tone: `plain`, `friendly` or `hurried` (hurried customers want shorter answers).
    attack: what is wrapped around the request, one of requests.ATTACKS. Harmless requests of kind
      `looks_unsafe` have the same wrappers, so a wrapper alone says nothing.
    severity: how bad it is to comply, 1 to 3; 0 for a harmless request.
    """

    text: str
    kind: str
    task: str
    topic: str
    category: str
    products: tuple[Product, ...]
    wanted: tuple[str, ...]
    budget: int
    tone: str
    attack: str = "plain"
    severity: int = 0

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives back an equal prompt."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(line: str) -> "Prompt":
        """Inverse of to_json.

        Raises:
          ValueError: not JSON, or a field is missing or unexpected.
        """
        try:
            data: dict[str, Any] = json.loads(line)
            data["products"] = tuple(_product(row) for row in data["products"])
            data["wanted"] = tuple(data["wanted"])
            return Prompt(**data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a shop prompt: {error}; write it with Prompt.to_json") from error


def _product(row: dict[str, Any]) -> Product:
    """A product from its JSON object."""
    row["features"] = tuple((feature, value) for feature, value in row["features"])
    row["known"] = tuple(row["known"])
    return Product(**row)


def make_prompt(seed: int, index: int) -> Prompt:
    """The prompt with this index in the world `seed`; a function of these two only.

    Different indices of one seed have different texts, so disjoint index ranges are disjoint
    splits.

    Args:
      seed: the world.
      index: 0 <= index < catalogue.DISTINCT_PROMPTS.
    Raises:
      ValueError: index out of range.
    """
    rows = coded_rows(seed, index)
    rng = Random(f"prompt/{seed}/{index}")
    kind = rng.choices(KINDS, [_SHARES[k] for k in KINDS])[0]
    task = {"shop": "recommend", "unsafe": "refuse"}.get(kind) or rng.choice(("recommend", "howto"))
    category = rng.choice(tuple(CATEGORIES))
    count = rng.choice((2, 3, 3, 4)) if task == "recommend" else 2
    shown = tuple(rng.sample(CATEGORIES[category], 1 if count == 4 else 2))
    tone = rng.choice(tuple(requests.TONES))
    products = make_products(rng, rows, category, shown, count)
    wanted: tuple[str, ...] = ()
    budget, topic, attack = 0, "", "plain"
    if task == "recommend":
        wanted = shown[: rng.choice((1, 2))]
        products, budget = _plant_target(rng, products, wanted)
        templates = requests.FIERCE_REQUESTS if kind == "looks_unsafe" else requests.REQUESTS
    else:
        topic = rng.choice(requests.TOPICS)
        book = requests.UNSAFE_REQUESTS if task == "refuse" else requests.HOWTO_REQUESTS
        templates = book[topic]
    if kind != "shop":
        attack = rng.choices(requests.ATTACKS, _ATTACK_WEIGHTS)[0]
    request = rng.choice(templates).format(
        cat=category,
        name=rng.choice(products).name,
        wanted=" and ".join(wanted),
        num=NUMBER_WORDS.get(budget) if rng.random() < 0.3 else budget,
        goal=rng.choice(requests.GOALS[category]),
    )
    request = f" {request}".replace(" a insulated", " an insulated")[1:]
    parts = [rng.choice(requests.TONES[tone]), rng.choice(requests.WRAPPERS[attack]), request]
    severity = requests.SEVERITIES[topic] if task == "refuse" else 0
    return Prompt(
        _write(products, shown, parts), kind, task, topic, category, products, wanted, budget,
        tone, attack, severity,
    )  # fmt: skip


def _plant_target(
    rng: Random, products: tuple[Product, ...], wanted: tuple[str, ...]
) -> tuple[tuple[Product, ...], int]:
    """Makes one product a good purchase, chooses the budget for it, and may sell out another."""
    target = rng.randrange(len(products))
    rows = list(products)
    features = tuple((f, v or (f in wanted and f in rows[target].known))
                     for f, v in rows[target].features)  # fmt: skip
    known = set(rows[target].known) | {wanted[0]}  # at least one wanted feature is certain
    features = tuple((f, v or f == wanted[0]) for f, v in features)
    known_in_order = tuple(f for f, _ in features if f in known)
    rows[target] = replace(rows[target], features=features, known=known_in_order)
    budget = rng.choice([price for price in PRICES if price >= rows[target].price][:4])
    if rng.random() < 0.3:
        other = (target + rng.randrange(1, len(rows))) % len(rows)
        rows[other] = replace(rows[other], in_stock=False)
    return tuple(rows), budget


def _write(products: tuple[Product, ...], shown: tuple[str, ...], parts: list[str]) -> str:
    """The text: catalogue lines, then the parts of the request, then the assistant's turn."""
    words = ["shop :"]
    for product in products:
        words.append(f"{product.name} {product.price} dollars {product.stars} stars")
        for feature in shown:
            value = {True: "yes", False: "no", None: "unknown"}[product.shown_value(feature)]
            words.append(f"{feature} {value}")
        words.append("." if product.in_stock else "sold out .")
    words.append("customer :")
    words.extend(part for part in parts if part)
    words.append("assistant :")
    return " ".join(words)
