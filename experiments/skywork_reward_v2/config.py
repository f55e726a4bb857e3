"""Sizes of the skywork_reward_v2 experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: true rewards, each with its own pairs.
    features: d of a pair; the first is style, on which the true reward does not depend.
    scale: length of the true weights. noise: logistic noise of a true label, in reward.
    style: share of pool labels that are the sign of the style feature.
    judge: how often the judge gives the true label, each pair independently.
    verified: pairs with true labels that the gold model is fitted to.
    sizes: of the pool, rising; each round curates with the model of the round before.
    test: pairs with noise-free labels.
    ridge: of every fit, beside the sum of the losses.
    """

    seed: int = 0
    num_seeds: int = 10
    features: int = 20
    scale: float = 3.0
    noise: float = 0.5
    style: float = 0.4
    judge: float = 0.8
    verified: int = 300
    sizes: tuple[int, ...] = (1_000, 4_000, 20_000)
    test: int = 20_000
    ridge: float = 1.0

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "features")
        check_fields(self, "[1, inf)", "verified", "sizes", "test")
        check_fields(self, "(0, inf)", "scale", "noise", "ridge")
        check_fields(self, "[0, 1]", "style", "judge")
        if len(self.sizes) < 2 or list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes must rise and be at least two, got {self.sizes}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer seeds and smaller pools: every recipe in seconds."""
    return Config(num_seeds=4, sizes=(500, 2_000), test=5_000)
