"""Sizes of the icpl experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: grids of the search; net_seeds: the first of them, for PbRL.
    size, hazards, coins, slip, horizon: of a grid.
    number, rounds: programs of a round, rounds.
    noise: sd of the noisy person's error about a policy's score.
    long_rounds: rounds of the longer search.
    numbers: programs of a round at about the same number of comparisons.
    pairs: comparisons of trajectories for a reward network, from few to many.
    refits: of it, between collections. random_share: of the actions that collect. precision: of
      the prior of its weights.
    """

    seed: int = 0
    num_seeds: int = 40
    net_seeds: int = 10
    size: int = 6
    hazards: int = 7
    coins: int = 3
    slip: float = 0.1
    horizon: int = 24
    number: int = 6
    rounds: int = 5
    noise: float = 0.3
    long_rounds: int = 10
    numbers: tuple[int, ...] = (2, 4, 6, 10)
    pairs: tuple[int, ...] = (49, 1500, 15000)
    refits: int = 5
    random_share: float = 0.5
    precision: float = 0.1

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "net_seeds")
        check_fields(self, "[3, 12]", "size")
        check_fields(self, "[0, inf)", "hazards", "coins")
        check_fields(self, "[0, 1]", "slip", "random_share")
        check_fields(self, "[1, 1000]", "horizon")
        check_fields(self, "[2, 100]", "number", "numbers", "rounds")
        check_fields(self, "[0, 100]", "noise")
        check_fields(self, "[2, 1000]", "long_rounds")
        check_fields(self, "[10, inf)", "pairs")
        check_fields(self, "[1, 10]", "refits")
        check_fields(self, "(0, inf)", "precision")
        if self.hazards + self.coins > self.size**2 - 2:
            raise ValueError(
                f"hazards must leave room on {self.size**2 - 2} cells with {self.coins} coins, "
                f"got {self.hazards}"
            )
        if self.net_seeds > self.num_seeds:
            raise ValueError(f"net_seeds must be at most {self.num_seeds}, got {self.net_seeds}")
        if self.long_rounds <= self.rounds:
            raise ValueError(f"long_rounds must be above {self.rounds}, got {self.long_rounds}")
        if list(self.pairs) != sorted(set(self.pairs)) or len(self.pairs) < 2:
            raise ValueError(f"pairs must rise, two sizes or more, got {self.pairs}")
        if list(self.numbers) != sorted(set(self.numbers)):
            raise ValueError(f"numbers must rise, got {self.numbers}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Eight grids, two sizes of pairs: every stage."""
    return Config(num_seeds=8, net_seeds=4, long_rounds=6, numbers=(2, 6), pairs=(49, 500))
