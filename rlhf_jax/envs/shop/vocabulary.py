"""Every word of the world: what the tokenizer of the shop has one id for each."""

from types import ModuleType

from rlhf_jax.envs.shop import critiques, outcomes, phrases, spurious, turns, users, voices
from rlhf_jax.envs.shop.catalogue import CATEGORIES, FEATURES, NAMES, PRICES, STARS

# Modules with texts of their own: each has TEMPLATES, of which words in {braces} are slots.
WRITERS: tuple[ModuleType, ...] = (
    phrases,
    voices,
    turns,
    critiques,
    outcomes,
    users,
    spurious,
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
    found.update(NAMES, FEATURES, CATEGORIES, phrases.STREETS)
    found.update(str(number) for number in PRICES + STARS)
    return sorted(found)
