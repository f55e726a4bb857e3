"""Sizes of the nash_mp experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of games, references and samples. num_seeds: of each game, all in one vmap.
    betas: KL weights, falling; the inner problems have the second one.
    queries: calls of the oracle in the curves, two for each update of Nash-MP.
    coarse, fine: steps tried for mirror descent, for its curves and for its fewest updates.
    most_updates: where the search for a gap of 1e-6 is given up.
    random_games, random_updates: games of 3 to 29 answers, and updates of Nash-MP on each.
    batch: answers of a sampled inner step.
    points: of a curve.
    """

    seed: int = 0
    num_seeds: int = 10
    betas: tuple[float, ...] = (0.1, 0.05, 0.02, 0.01, 0.005)
    queries: int = 4_000
    coarse: int = 12
    fine: int = 50
    most_updates: int = 100_000
    random_games: int = 60
    random_updates: int = 3_000
    batch: int = 128
    points: int = 200

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "(0, inf)", "betas")
        # A slope against 1 / beta is fitted.
        if len(self.betas) < 3:
            raise ValueError(f"betas must be at least three, got {self.betas}")
        if list(self.betas) != sorted(set(self.betas), reverse=True):
            raise ValueError(f"betas must fall, got {self.betas}")
        check_fields(self, "[2, inf)", "num_seeds")
        check_fields(self, "[2, inf)", "queries")
        if self.queries % 2:
            raise ValueError(f"queries must be even, got {self.queries}")
        check_fields(self, "[27, inf)", "random_games")  # one of each size
        check_fields(self, "[1, inf)", "coarse", "fine", "most_updates", "random_updates", "batch")
        check_fields(self, "[1, inf)", "points")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four betas and fewer updates: every stage in seconds."""
    return Config(
        betas=(0.1, 0.05, 0.02, 0.01),
        queries=400,
        coarse=6,
        fine=40,
        most_updates=20_000,
        random_games=27,
        random_updates=500,
        points=60,
    )
