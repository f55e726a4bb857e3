"""Sizes of the spo experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of games and samples. num_seeds: all in the same vmap.
    rate, batch, queue, steps: of SPO on a matrix game: step, answers per update, answers that they
      are compared with, updates.
    queues: lengths of the ablation, ascending.
    fit_rate, fit_steps: of the reward model, gradient steps per update.
    fit_rates, memories: of the tuned reward model: rates, and shares of the pairs so far that are
      kept at every update; 1 is all of them.
    answers: of the low-rank game.
    margins: of the Condorcet games. horizons: T of Hedge, ascending.
    walk_rate, walk_batch, walk_steps: of REINFORCE on trajectories.
    flips: shares of wrong labels, ascending.
    """

    seed: int = 0
    num_seeds: int = 10
    rate: float = 0.05
    batch: int = 32
    queue: int = 32
    steps: int = 4000
    queues: tuple[int, ...] = (1, 32, 256, 4096)
    fit_rate: float = 1.0
    fit_steps: int = 5
    fit_rates: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    memories: tuple[float, ...] = (1.0, 0.9, 0.0)
    answers: int = 12
    margins: tuple[float, ...] = (0.05, 0.1, 0.2)
    horizons: tuple[int, ...] = (100, 400, 1600, 6400)
    walk_rate: float = 2.0
    walk_batch: int = 64
    walk_steps: int = 500
    flips: tuple[float, ...] = (0.0, 0.1, 0.3)

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, inf)", "batch", "queue", "fit_steps", "walk_steps", "queues")
        check_fields(self, "[2, inf)", "num_seeds", "answers", "walk_batch")
        check_fields(self, "(0, 1000]", "rate", "fit_rate", "fit_rates", "walk_rate")
        check_fields(self, "[0, 1]", "memories")
        if self.memories[:1] != (1.0,):
            raise ValueError(f"memories must begin with 1, all pairs, got {self.memories}")
        check_fields(self, "(0, 1/2]", "margins")
        check_fields(self, "[0, 1/2)", "flips")
        if list(self.flips) != sorted(set(self.flips)):
            raise ValueError(f"flips must ascend, got {self.flips}")
        check_fields(self, "[10, inf)", "steps")
        if len(self.queues) < 2 or list(self.queues) != sorted(set(self.queues)):
            raise ValueError(f"queues must be two or more and ascend, got {self.queues}")
        if self.batch not in self.queues:
            raise ValueError(f"queues must hold the batch, {self.batch}, got {self.queues}")
        # The claims know the gaps at these horizons.
        if self.horizons != (100, 400, 1600, 6400):
            raise ValueError(f"horizons must be 100, 400, 1600 and 6400, got {self.horizons}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four seeds, a smaller game and a shorter longest queue; every panel and every claim."""
    return Config(num_seeds=4, answers=4, fit_rates=(1.0, 3.0), queues=(1, 32, 256, 1024))
