"""Sizes of the cpl experiment."""

from dataclasses import dataclass


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
    num_seeds: int = 40
    sizes: tuple[int, ...] = (300, 1000, 3000, 10_000, 30_000)
    length: int = 4
    alpha: float = 0.1
    steps: int = 1500
    rate: float = 0.05
    shares: tuple[float, ...] = (0.0, 0.3, 0.6, 1.0)
    covered_pairs: int = 1000

    def __post_init__(self):
        if self.num_seeds < 2:
            raise ValueError(f"num_seeds must be at least 2, got {self.num_seeds}")
        for name in ("length", "steps", "covered_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        sizes, shares = set(self.sizes), set(self.shares)
        if len(sizes) < 3 or min(sizes) < 1 or list(self.sizes) != sorted(sizes):
            raise ValueError(f"sizes must be three or more, >= 1 and ascend, got {self.sizes}")
        if not shares or min(shares) < 0 or max(shares) > 1 or len(shares) < len(self.shares):
            raise ValueError(f"shares must lie in [0, 1] and differ, got {self.shares}")
        for name in ("alpha", "rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Two grids, fewer pairs and steps: every stage."""
    return Config(
        num_seeds=2, sizes=(100, 300, 1000), steps=150, shares=(0.3, 1.0), covered_pairs=300
    )
