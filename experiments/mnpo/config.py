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
    players: of Eq. 10 and of Eq. 5 to 7, in separate runs, two first.
    populations: of judges, in the game of one against many; half of them tune what learns from
      calls. many_updates: on exact chances. calls, call_updates: calls of the judge in an update,
      and updates.
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
    populations: int = 40
    many_updates: int = 600
    calls: int = 16
    call_updates: int = 200
    oracle_rounds: int = 1000

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "rounds", "players", "oracle_rounds")
        check_fields(self, "[4, inf)", "populations")
        check_fields(self, "[1, inf)", "many_updates", "calls", "call_updates")
        if self.players[:1] != (2,) or len(self.players) < 2:
            raise ValueError(f"players must be 2 and then others, got {self.players}")
        if max(self.players) > 6:
            raise ValueError(f"players must be 6 at most, got {self.players}")
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
    """Four seeds, eight populations of judges; every stage and every claim."""
    return Config(num_seeds=4, populations=8, many_updates=400, call_updates=100)
