"""Sizes of the rm_ensembles experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds, each with its own gold score, pairs and members.
    control_seeds: of them, those without label noise, and those with shared errors.
    pairs: comparisons of two answers of the base policy. noise: share of labels that are swapped.
    members: N. width: units of a member. start, narrow: factors on the first weights of `make_mlp`,
      uniform in 1 / sqrt(inputs): 6^(1/2) is He's initialisation, 1 starts members close together.
    rate, batch, epochs: Adam, and passes over the pairs.
    prompts, candidates: sets of answers to choose from, and answers in each.
    penalties: lambda of UWO, in units of 1 / the deviation of a member's scores; 1 and 2 are among
      them.
    betas: KL weights of the regularised optimum, falling, in deviations; 0.3 is among them.
    far_share, far, near: answers off the distribution, and the scale of their last six features;
      that of all others.
    """

    seed: int = 0
    num_seeds: int = 40
    control_seeds: int = 10
    pairs: int = 1500
    noise: float = 0.25
    members: int = 5
    width: int = 64
    start: float = 6**0.5
    narrow: float = 1.0
    rate: float = 3e-3
    batch: int = 32
    epochs: int = 5
    prompts: int = 20
    candidates: int = 4000
    penalties: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    betas: tuple[float, ...] = (2.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.05)
    far_share: float = 0.005
    far: float = 3.0
    near: float = 0.1

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "control_seeds", "members", "candidates")
        check_fields(self, "[1, inf)", "width", "batch", "epochs", "prompts")
        check_fields(self, "[0, 1/2)", "noise")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, 1]", "far_share")
        check_fields(self, "(0, inf)", "start", "narrow", "far", "near", "penalties", "betas")
        if self.pairs < self.batch:
            raise ValueError(f"pairs must be a batch of {self.batch} at least, got {self.pairs}")
        if not {1.0, 2.0} <= set(self.penalties):
            raise ValueError(f"penalties must have 1 and 2 among them, got {self.penalties}")
        if 0.3 not in self.betas or list(self.betas) != sorted(self.betas, reverse=True):
            raise ValueError(f"betas must fall and have 0.3 among them, got {self.betas}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Few worlds, few answers: every stage."""
    return Config(num_seeds=3, control_seeds=2, pairs=500, prompts=4, candidates=500)
