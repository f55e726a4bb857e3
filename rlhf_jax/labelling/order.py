"""Who sees what when: a random order by a hash, the same after a restart or with more rows."""

import hashlib
from collections.abc import Iterable

from rlhf_jax.labelling.items import Item


def row_order(items: Iterable[Item], *, seed: int, annotator: str) -> list[Item]:
    """The items in the order of one annotator."""
    return sorted(items, key=lambda item: _draw(seed, annotator, item.key))


def answer_order(item: Item, *, seed: int, annotator: str) -> list[int]:
    """The answers in the order shown to one annotator, as positions in `item.answers`."""
    positions = range(len(item.answers))
    return sorted(positions, key=lambda i: _draw(seed, annotator, item.key, str(i)))


def _draw(seed: int, *names: str) -> bytes:
    return hashlib.sha256("\n".join([str(seed), *names]).encode()).digest()
