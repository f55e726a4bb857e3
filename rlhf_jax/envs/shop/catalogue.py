"""The catalogue of the shop: categories, yes/no features, and products with hidden features."""

from dataclasses import dataclass
from random import Random

CATEGORIES: dict[str, tuple[str, ...]] = {
    "lamp": ("dimmable", "foldable", "wireless", "bright"),
    "kettle": ("quiet", "insulated", "wireless", "light"),
    "backpack": ("waterproof", "light", "padded", "foldable"),
    "jacket": ("waterproof", "warm", "light", "washable"),
    "speaker": ("wireless", "waterproof", "loud", "light"),
    "blender": ("quiet", "washable", "wireless", "strong"),
}
FEATURES = tuple(sorted({name for names in CATEGORIES.values() for name in names}))
_NAME_LINE = (
    "nova zeta luma kiro peak tora vela orbi mira fado juno rexa siro pola nemo "
    "duna lyra koda vita bora alto mondo yuki tika rami gala hobo iris nila zulu"
)
NAMES = tuple(_NAME_LINE.split())
PRICES = tuple(range(10, 100, 10))  # dollars
STARS = (2, 3, 4, 5)
_NUMERALS = "ten twenty thirty forty fifty sixty seventy eighty ninety two three four five"
NUMBER_WORDS: dict[int, str] = dict(zip(PRICES + STARS, _NUMERALS.split(), strict=True))
_NUMBERS = {word: number for number, word in NUMBER_WORDS.items()}


def read_number(word: str) -> int | None:
    """The number that a word writes, in digits or as one of NUMBER_WORDS; None if it is none."""
    return int(word[:9]) if word.isdecimal() else _NUMBERS.get(word)


@dataclass(frozen=True)
class Product:
    """One product of the catalogue.

    name: unique short name. price: dollars. stars: rating, 2 to 5. in_stock: False = sold out.
    features: every feature of the category with its true value.
    known: the features with a value that the assistant is shown. The others are unknown when it
      answers, listed as `unknown` or not listed, and known only after the purchase.
    """

    name: str
    price: int
    stars: int
    in_stock: bool
    features: tuple[tuple[str, bool], ...]
    known: tuple[str, ...]

    def true_value(self, feature: str) -> bool:
        """The hidden truth; a feature that this category does not have is False."""
        return dict(self.features).get(feature, False)

    def shown_value(self, feature: str) -> bool | None:
        """The value shown to the assistant; None means unknown."""
        return self.true_value(feature) if feature in self.known else None


# The first two rows of a prompt encode its index, so different indices have different texts.
_NAME_CODES = len(NAMES) * (len(NAMES) - 1)
_DETAIL_CODES = (len(PRICES) * len(STARS)) ** 2
DISTINCT_PROMPTS = _NAME_CODES * _DETAIL_CODES


def _shuffle_index(seed: int, index: int) -> tuple[int, int]:
    """index -> (name code, detail code), one to one: each round adds a hash of one part to the
    other, which is invertible, so no two indices collide."""
    details, names = divmod(index, _NAME_CODES)
    for turn in range(3):
        names = (names + Random(f"names/{seed}/{turn}/{details}").getrandbits(32)) % _NAME_CODES
        details = (
            details + Random(f"details/{seed}/{turn}/{names}").getrandbits(32)
        ) % _DETAIL_CODES
    return names, details


def coded_rows(seed: int, index: int) -> list[tuple[str, int, int]]:
    """(name, price, stars) of the first two products, one to one in `index` for a given seed.

    Args:
      seed: any integer; another seed is another order.
      index: 0 <= index < DISTINCT_PROMPTS.
    Raises:
      ValueError: index out of range.
    """
    if not 0 <= index < DISTINCT_PROMPTS:
        raise ValueError(
            f"prompt index {index} is out of range; use 0 <= index < {DISTINCT_PROMPTS}"
        )
    names, details = _shuffle_index(seed, index)
    offset, first = divmod(names, len(NAMES))
    rows = []
    for name in (NAMES[first], NAMES[(first + 1 + offset) % len(NAMES)]):
        details, price = divmod(details, len(PRICES))
        details, stars = divmod(details, len(STARS))
        rows.append((name, PRICES[price], STARS[stars]))
    return rows


def make_products(
    rng: Random, rows: list[tuple[str, int, int]], category: str, shown: tuple[str, ...], count: int
) -> tuple[Product, ...]:
    """`count` products: the given rows first, then random ones with other names.

    Each shown feature is unknown with probability 0.2; the others are always unknown.
    """
    rows = list(rows)
    others = [name for name in NAMES if name not in {row[0] for row in rows}]
    for name in rng.sample(others, count - len(rows)):
        rows.append((name, rng.choice(PRICES), rng.choice(STARS)))
    products = []
    for name, price, stars in rows:
        features = tuple((f, rng.random() < 0.5) for f in CATEGORIES[category])
        known = tuple(f for f in shown if rng.random() < 0.8)
        products.append(Product(name, price, stars, True, features, known))
    return tuple(products)
