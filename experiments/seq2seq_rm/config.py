"""Sizes of the seq2seq_rm experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: bandits, all in one vmap. answers: of a bandit.
    beta: KL weight. steps, rate: updates and the first learning rate of Adam, cosine to 0.
    """

    seed: int = 0
    num_seeds: int = 10
    answers: int = 8
    beta: float = 0.5
    steps: int = 1000
    rate: float = 0.1

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "answers")
        check_fields(self, "(0, inf)", "beta")
        check_fields(self, "[1, inf)", "steps")
        check_fields(self, "(0, 1]", "rate")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Three small bandits, in seconds."""
    return Config(num_seeds=3, answers=4, steps=100)
