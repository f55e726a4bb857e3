"""Every word of the world: what the tokenizer of the shop has one id for each."""

from types import ModuleType

from rlhf_jax.envs.shop import (
    comparisons,
    critiques,
    drills,
    errands,
    formats,
    outcomes,
    phrases,
    principles,
    requests,
    reviews,
    spurious,
    sums,
    turns,
    users,
    voices,
    weather,
)
from rlhf_jax.envs.shop.catalogue import CATEGORIES, FEATURES, NAMES, NUMBER_WORDS
from rlhf_jax.envs.shop.explanations import STREETS

# Modules with texts of their own: each has TEMPLATES, of which words in {braces} are slots.
WRITERS: tuple[ModuleType, ...] = (
    requests,
    phrases,
    voices,
    turns,
    critiques,
    outcomes,
    users,
    spurious,
    comparisons,
    drills,
    errands,
    formats,
    principles,
    reviews,
    sums,
    weather,
)


def words() -> list[str]:
    """Every word that can occur in a text of the world, sorted."""
    found = {
        word
        for writer in WRITERS
        for template in writer.TEMPLATES
        for word in template.split()
        if not word.startswith("{")
    }
    found.update(NAMES, FEATURES, CATEGORIES, STREETS, NUMBER_WORDS.values())
    found.update(str(number) for number in NUMBER_WORDS)
    return sorted(found)
