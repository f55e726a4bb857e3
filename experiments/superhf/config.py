"""Sizes of the superhf experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields

CLAIMED_RATE = 0.1  # the claims are about rates from here on


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds, all in one vmap.
    prompts, answers: of a world. hack: mass of the reference on the answer the proxy overrates.
    samples, beta: size of a superbatch and weight of the prior of the trained runs.
    betas: of the exact fixed points, ascending from 0, the last one above samples - 1.
    superbatches, epochs: of the trained runs; epochs are PPO's. rates: of plain SGD.
    absent: mass on the overrated answer in the trained runs that never meet it.
    rare, early, early_rate, early_betas: mass on the overrated answer, superbatches, their rate and
      priors where training stops early.
    solve_steps: of Adam on the population loss. exact_steps: of the fixed-point iteration.
    """

    seed: int = 0
    num_seeds: int = 10
    prompts: int = 20
    answers: int = 50
    hack: float = 0.01
    samples: int = 16
    beta: float = 0.35
    betas: tuple[float, ...] = (0.0, 0.05, 0.1, 0.25, 0.35, 0.5, 1.0, 2.0, 5.0, 20.0)
    superbatches: int = 200
    epochs: int = 4
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)
    absent: float = 1e-9
    rare: float = 1e-3
    early: int = 120
    early_rate: float = 0.3
    early_betas: tuple[float, ...] = (0.0, 0.1, 0.35, 1.0, 2.0)
    solve_steps: int = 3000
    exact_steps: int = 400

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "prompts", "samples")
        check_fields(self, "[3, inf)", "answers")
        check_fields(self, "(0, 1/2]", "hack", "absent", "rare")
        check_fields(self, "(0, inf)", "beta")
        check_fields(self, "[0, inf)", "betas", "early_betas")
        check_fields(self, "(0, 10]", "rates", "early_rate")
        check_fields(self, "[1, inf)", "superbatches", "epochs", "early", "solve_steps")
        check_fields(self, "[100, inf)", "exact_steps")
        for name in ("betas", "early_betas", "rates"):
            values = getattr(self, name)
            if len(values) < 2 or list(values) != sorted(set(values)):
                raise ValueError(f"{name} must be two or more and ascend, got {values}")
        if self.betas[0] or self.early_betas[0] or self.beta not in self.betas:
            raise ValueError("betas must begin with 0 and have beta, early_betas must begin with 0")
        if self.beta not in self.early_betas:
            raise ValueError(f"early_betas must have beta, {self.beta}; got {self.early_betas}")
        if sum(rate >= CLAIMED_RATE for rate in self.rates) < 2:
            raise ValueError(
                f"rates must have two numbers from {CLAIMED_RATE} on, got {self.rates}"
            )


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four worlds, fewer superbatches, rates and steps: the same claims."""
    return Config(
        num_seeds=4,
        betas=(0.0, 0.1, 0.35, 1.0, 5.0, 20.0),
        superbatches=60,
        rates=(0.1, 1.0),
        early=60,
        early_betas=(0.0, 0.35),
        solve_steps=2000,
        exact_steps=200,
    )
