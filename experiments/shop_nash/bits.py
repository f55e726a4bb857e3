"""One counter of bits for each method: all that it may know of the population."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Bool, Float

from experiments.shop_nash.world import population_prefs
from rlhf_jax.recipes import Labels, LanguageLab, decoded_judge
from rlhf_jax.recipes.task import Teacher
from rlhf_jax.types import Judge


@dataclass(frozen=True)
class BitCounter:
    """A budget of labels, each the verdict of one judge on one pair.

    name: of the method, for messages. seeds: of its labels. now: "spent", labels given so far.
    """

    name: str
    budget: int
    seeds: tuple[int, ...]
    now: dict[str, int] = field(default_factory=lambda: {"spent": 0})

    @property
    def spent(self) -> int:
        """Labels given so far."""
        return self.now["spent"]

    def restore(self, spent: int) -> None:
        """Goes on from a checkpoint at which so many had been given."""
        self.now["spent"] = int(spent)


def ask_bits(counter: BitCounter, prefs: Float[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
    """Whether the first answer of each pair wins: one Bernoulli draw each, which is counted.

    Args:
      counter: the labels depend on its seeds and on how many were given before.
      prefs: [N] P(first beats second).
    Raises:
      ValueError: more labels than the budget has left.
    """
    left = counter.budget - counter.spent
    if len(prefs) > left:
        raise ValueError(
            f"{counter.name} asks for {len(prefs)} bits and has {left} left of {counter.budget}"
        )
    draws = np.random.default_rng([*counter.seeds, counter.spent]).random(len(prefs))
    counter.restore(counter.spent + len(prefs))
    return draws < np.asarray(prefs)


def bit_judge(lab: LanguageLab, counter: BitCounter, *, beta: float) -> Judge:
    """The population asked one judge at a time: 1 if the first answer wins, else 0."""

    def compare(indices: np.ndarray, *sides: Sequence[str]) -> Float[np.ndarray, "N"]:
        prefs = population_prefs(lab.seed, indices, *sides, beta=beta)
        return ask_bits(counter, prefs).astype(float)

    return decoded_judge(lab, compare)


def exact_judge(lab: LanguageLab, *, beta: float) -> Judge:
    """The population's own preferences, for evaluation: no method may ask it."""

    def compare(indices: np.ndarray, *sides: Sequence[str]) -> Float[np.ndarray, "N"]:
        return population_prefs(lab.seed, indices, *sides, beta=beta)

    return decoded_judge(lab, compare)


def bit_teacher(counter: BitCounter, seed: int, *, beta: float) -> Teacher:
    """One bit for each pair, equal answers included; nothing is left out."""

    def label(
        key: jax.Array, indices: np.ndarray, first: Sequence[str], second: Sequence[str]
    ) -> Labels:
        won = ask_bits(counter, population_prefs(seed, indices, first, second, beta=beta))
        return Labels(1 - won.astype(int), np.ones(len(won), bool), {})

    return label
