"""Sizes of the inpo experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything drawn. num_seeds: random games, samples, or starts of a game without either.
    rounds: of INPO and of the methods beside it; the last quarter is what is averaged.
    pairs: drawn from the policy in each round.
    hedge_updates: T of the four runs of Hedge, each with its own step.
    hedge_games: random games that Hedge plays; a slope differs by 0.15 from game to game.
    schedule_updates: of the decaying steps.
    transformer_rounds, transformer_steps: Adam steps in each round, transformer_rate their rate.
    """

    seed: int = 0
    num_seeds: int = 10
    rounds: int = 200
    pairs: int = 2000
    hedge_updates: tuple[int, ...] = (100, 400, 1600, 6400)
    hedge_games: int = 40
    schedule_updates: int = 4000
    transformer_rounds: int = 60
    transformer_steps: int = 60
    transformer_rate: float = 0.01

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "hedge_games")
        check_fields(self, "[4, inf)", "rounds", "transformer_rounds", "schedule_updates")
        check_fields(self, "[1, inf)", "pairs", "transformer_steps", "hedge_updates")
        updates = set(self.hedge_updates)
        if len(updates) < 3 or list(self.hedge_updates) != sorted(updates):
            raise ValueError(
                f"hedge_updates must be three or more and ascend, got {self.hedge_updates}"
            )
        check_fields(self, "(0, 1]", "transformer_rate")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer seeds, shorter runs of Hedge and of the decaying steps: the same claims."""
    return Config(num_seeds=4, hedge_updates=(100, 400, 1600), schedule_updates=1000)
