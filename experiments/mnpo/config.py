"""Sizes of the mnpo experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of references, first policies and Bradley-Terry scores.
    num_seeds: references (first policies, scores), all in the same vmap; number 0 is
      softmax(.7, 0, -.7), or starts at (.5, -.5, 0).
    rounds, tail: of the stability grid, and how many last ones a cycle is judged on.
    ref_weights: rho, the weight of the reference in a step.
    etas: steps of the grid; beta = rho / eta.
    horizons: T of the average policies, ascending.
    players: of Eq. 10, in separate runs.
    oracle_rounds: of the players with an oracle each.
    """

    seed: int = 0
    num_seeds: int = 10
    rounds: int = 3000
    tail: int = 100
    ref_weights: tuple[float, ...] = (0.02, 0.1)
    etas: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    horizons: tuple[int, ...] = (100, 400, 1600, 6400)
    players: tuple[int, ...] = (2, 3, 5)
    oracle_rounds: int = 1000

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "rounds", "players", "oracle_rounds")
        check_fields(self, f"[1, {self.rounds})", "tail")
        check_fields(self, "(0, inf)", "etas")
        # The claims know the limits of eta at these weights, and gaps at these horizons.
        if not {0.1} <= set(self.ref_weights) <= {0.02, 0.1}:
            raise ValueError(f"ref_weights must hold 0.1, and 0.02 at most, got {self.ref_weights}")
        if 1.0 not in self.etas or max(self.etas) < 2:
            raise ValueError(f"etas must hold 1 and reach 2, got {self.etas}")
        if self.horizons not in ((100, 400, 1600, 6400), (400, 1600, 6400)):
            raise ValueError(f"horizons must be 100, 400, 1600 and 6400, got {self.horizons}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Two seeds: number 0 and another; every stage and every claim."""
    return Config(num_seeds=2)
