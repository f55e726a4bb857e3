"""Sizes of the seq2seq_rm experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds with their pairs and policies, all in one vmap.
    prompts, length, vocabulary: X, L and V; each position of each prompt has one right token.
    sizes: numbers of pairs, rising; each holds the smaller ones. heldout: pairs to measure on.
    chosen, rejected: chance that a token of such an answer is right.
    backoff: weight of counts that ignore the answer that was read.
    l2, fit_steps, fit_rate: penalty on squared weights of the scalar model, and Adam.
    batch, updates, rate, gae_lambda: of PPO, one update of each batch.
    length_pairs, more_pairs: of the length panel, and of a larger one where every tail was seen.
    """

    seed: int = 0
    num_seeds: int = 10
    prompts: int = 10
    length: int = 12
    vocabulary: int = 8
    sizes: tuple[int, ...] = (50, 200, 1000)
    heldout: int = 1000
    chosen: float = 0.9
    rejected: float = 0.5
    backoff: float = 0.3
    l2: float = 1e-3
    fit_steps: int = 300
    fit_rate: float = 0.1
    batch: int = 64
    updates: int = 150
    rate: float = 0.1
    gae_lambda: float = 0.95
    length_pairs: int = 5000
    more_pairs: int = 20_000

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "vocabulary", "length_pairs", "more_pairs")
        check_fields(self, "[1, inf)", "prompts", "length", "sizes", "heldout", "fit_steps")
        check_fields(self, "[1, inf)", "batch", "updates")
        check_fields(self, "[0, inf)", "backoff", "l2")
        check_fields(self, "(0, 1]", "chosen", "rejected", "fit_rate", "rate")
        check_fields(self, "[0, 1]", "gae_lambda")
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes must rise, got {self.sizes}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Three seeds, two sizes, a shorter fit: every stage."""
    return Config(num_seeds=3, sizes=(50, 200), heldout=200, fit_steps=100, updates=80)
