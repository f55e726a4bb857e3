"""Sizes of the nlhf experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of games, references and samples. num_seeds: of each game, all in one vmap.
    betas: KL weights, the paper's tau; the first is the one whose rates and floors are claimed.
    steps: updates with eta_t = 2 / (beta (t + 2)).
    fixed_etas: two constant steps, small and large. fixed_steps: their updates.
    rival_etas: constant steps, rising, that Hedge and mirror descent are tuned over, at the first
      beta, on fixed_steps updates.
    hedge_steps: updates of Hedge on rock-paper-scissors, T in its step sqrt(8 log 3 / T).
    mixture_steps, batch, rate: of Nash-MD-PG on samples, plain SGD on the logits of a table.
    points: of a curve, evenly spaced in the logarithm of t.
    """

    seed: int = 0
    num_seeds: int = 10
    betas: tuple[float, ...] = (0.1, 0.01)
    steps: int = 60_000
    fixed_etas: tuple[float, float] = (0.1, 0.5)
    fixed_steps: int = 6_000
    rival_etas: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    hedge_steps: int = 6_400
    mixture_steps: int = 20_000
    batch: int = 64
    rate: float = 0.1
    points: int = 150

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "(0, inf)", "betas")
        small, large = self.fixed_etas
        if not 0 < small < large <= 1 / max(self.betas):
            raise ValueError(f"fixed_etas must rise from 0 to 1 / beta, got {self.fixed_etas}")
        rising = list(self.rival_etas) == sorted(set(self.rival_etas))
        if len(self.rival_etas) < 2 or not rising or self.rival_etas[-1] > 1 / self.betas[0]:
            raise ValueError(f"rival_etas must rise to at most 1 / beta, got {self.rival_etas}")
        check_fields(self, "(0, 1000]", "rate", "rival_etas")
        check_fields(self, "[2, inf)", "num_seeds")
        # Slopes are fitted from t = 1000 on.
        check_fields(self, "[2000, inf)", "steps")
        check_fields(self, "[30, inf)", "points")
        check_fields(self, "[1, inf)", "fixed_steps", "hedge_steps", "mixture_steps", "batch")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four seeds and fewer updates: every stage in seconds."""
    return Config(num_seeds=4, steps=4_000, fixed_steps=3_000, mixture_steps=4_000, points=60)
