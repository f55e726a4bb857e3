"""Sizes of the egpo experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything drawn. num_seeds: draws of the suite, each of `games` random games of
      `answers` answers with a reference of standard normal logits, all in one batch.
    updates: SGD updates at beta = 0.1 and at beta = 0.01; the authors' rates are in `suite.py`.
    late: the update by which EGPO has to be there at beta = 0.01.
    noise_etas, samples: steps, ascending, and answers of the opponent in each call.
    noise_updates: with a sampled oracle; the floor is the mean over the second half.
    guard_updates: on rock-paper-scissors, from `num_seeds` starts.
    bias_updates: to convergence, for the exploitability in the game without a penalty.
    network_updates, networks, network_answers: of the network that ten games share.
    """

    seed: int = 0
    num_seeds: int = 10
    games: int = 10
    answers: int = 10
    updates: tuple[int, int] = (1000, 5000)
    late: int = 1000
    noise_etas: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    samples: tuple[int, int, int] = (1, 10, 100)
    noise_updates: int = 4000
    guard_updates: int = 5000
    bias_updates: int = 2000
    network_updates: int = 10_000
    networks: int = 3
    network_answers: int = 100

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, inf)", "num_seeds", "games", "networks")
        check_fields(self, "[2, inf)", "answers", "network_answers")
        check_fields(self, "[20, inf)", "updates", "late", "noise_updates", "guard_updates")
        check_fields(self, "[20, inf)", "bias_updates", "network_updates")
        check_fields(self, "[1, inf)", "samples")
        check_fields(self, "(0, inf)", "noise_etas")
        for name in ("noise_etas", "samples"):  # slopes are fitted along both
            values = getattr(self, name)
            if len(values) < 3 or list(values) != sorted(set(values)):
                raise ValueError(f"{name} must be three or more and ascend, got {values}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """The same suite, shorter panels and a small network: the same claims in seconds."""
    return Config(
        noise_etas=(0.1, 0.3, 1.0),
        samples=(1, 4, 16),
        noise_updates=1000,
        guard_updates=2000,
        network_updates=200,
        networks=1,
        network_answers=20,
    )
