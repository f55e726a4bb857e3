"""The judges: three tastes, each a third of the population, asked about texts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlhf_jax.envs import shop
from rlhf_jax.recipes import LanguageLab
from rlhf_jax.recipes.selfplay import decoded_judge
from rlhf_jax.types import Judge


class Judged(NamedTuple):
    """What the world says of answers [N]: utilities [N, 3], style shares [N, 3], gold [N]."""

    utilities: np.ndarray
    styles: np.ndarray
    gold: np.ndarray


def utilities_of(seed: int, indices: np.ndarray, texts: list[str]) -> np.ndarray:
    """Utility [N, 3] of each text for each judge."""
    prompts = [shop.make_prompt(seed, int(i)) for i in indices]
    return shop.style_utilities(prompts, texts)


def judged(lab: LanguageLab, indices: np.ndarray, texts: list[str]) -> Judged:
    """Everything a report needs to know of the texts."""
    rows = []
    for index, text in zip(indices, texts, strict=True):
        found = shop.score(shop.make_prompt(lab.seed, int(index)), text)
        rows.append((shop.style_shares(text, found), found.overall))
    styles, gold = (np.array(column) for column in zip(*rows, strict=True))
    return Judged(utilities_of(lab.seed, indices, texts), styles, gold)


def population_judge(lab: LanguageLab, *, beta: float) -> Judge:
    """The world's exact P(first beats second), from the texts of the answers."""

    def compare(indices: np.ndarray, *sides: Sequence[str]) -> np.ndarray:
        utilities = [utilities_of(lab.seed, indices, list(texts)) for texts in sides]
        return shop.group_prefs(np.stack(utilities, axis=1), beta=beta)[:, 0, 1]

    return decoded_judge(lab, compare)
