"""Sizes of the cpl experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of grids, segments and labels. num_seeds: grids, each with its own data.
    sizes: numbers of pairs of segments.
    length: actions in a segment, uniform from a uniform start.
    alpha: temperature of the max-ent optimum whose advantages label the pairs, and of the learners.
    steps, rate: of Adam, full batch.
    shares: of the actions that behaviour may take in each state (one at least), for the panel on
      coverage; covered_pairs: its number of pairs.
    """

    seed: int = 0
    num_seeds: int = 10
    sizes: tuple[int, ...] = (300, 1000, 3000, 10_000, 30_000)
    length: int = 4
    alpha: float = 0.1
    steps: int = 1500
    rate: float = 0.05
    shares: tuple[float, ...] = (0.0, 0.3, 0.6, 1.0)
    covered_pairs: int = 1000

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds")
        check_fields(self, "[1, inf)", "length", "steps", "covered_pairs", "sizes")
        check_fields(self, "[0, 1]", "shares")
        check_fields(self, "(0, inf)", "alpha")
        check_fields(self, "(0, 1]", "rate")
        sizes, shares = set(self.sizes), set(self.shares)
        if len(sizes) < 3 or list(self.sizes) != sorted(sizes):
            raise ValueError(f"sizes must be three or more and ascend, got {self.sizes}")
        if len(shares) < len(self.shares):
            raise ValueError(f"shares must differ, got {self.shares}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Two grids, fewer pairs and steps: every stage."""
    return Config(
        num_seeds=2, sizes=(100, 300, 1000), steps=150, shares=(0.3, 1.0), covered_pairs=300
    )
