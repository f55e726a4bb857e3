"""Sizes of the domain_rm experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields

FEW, MANY, MORE = 100, 940, 2000  # pairs that the claims compare; 940 is the size of OpinPref


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds, each with its own features, weights and pairs.
    dims: of the raw representation of an answer, a standard normal vector.
    features: directions in it that decide. kept: of them, for models with wrong knowledge.
    noise: standard deviation of a rater's error, fixed for each answer and feature.
    strength: log-odds of a preference per unit of quality.
    sizes: numbers of pairs, each set holding the smaller ones.
    test_pairs: held out, labelled without noise.
    ridges: of the raw model, whose best one on the test pairs counts, and of the feature models.
    fit_steps: of the linear models' fit.
    epochs, batch, rate: of the 6-4-2 network, AdamW.
    prompts, pool, ns: best of n, from `pool` answers to each prompt.
    """

    seed: int = 0
    num_seeds: int = 10
    dims: int = 512
    features: int = 7
    kept: int = 4
    noise: float = 0.3
    strength: float = 2.5
    sizes: tuple[int, ...] = (25, 50, 100, 200, 400, 940, 2000, 5000, 20000)
    test_pairs: int = 4000
    ridges: tuple[float, ...] = (10.0, 100.0, 1000.0)
    ridge: float = 1.0
    fit_steps: int = 60
    epochs: int = 100
    batch: int = 32
    rate: float = 0.01
    prompts: int = 300
    pool: int = 256
    ns: tuple[int, ...] = (4, 16, 64, 256)

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "features", "prompts", "pool")
        check_fields(self, "[1, inf)", "sizes", "test_pairs", "fit_steps", "epochs", "kept", "ns")
        check_fields(self, "[2, inf)", "dims")
        check_fields(self, f"[1, {FEW}]", "batch")
        check_fields(self, "(0, inf)", "strength", "ridges", "ridge")
        check_fields(self, "[0, inf)", "noise")
        check_fields(self, "(0, 1]", "rate")
        if not self.kept < self.features <= self.dims:
            raise ValueError(
                f"kept must be below features and these at most dims, got {self.kept}, "
                f"{self.features}, {self.dims}"
            )
        if list(self.sizes) != sorted(set(self.sizes)) or not {FEW, MANY, MORE} < set(self.sizes):
            raise ValueError(
                f"sizes must ascend, hold {FEW}, {MANY} and {MORE} and others, got {self.sizes}"
            )
        if self.sizes[-1] <= MORE:
            raise ValueError(f"sizes must end above {MORE}, got {self.sizes}")
        if list(self.ns) != sorted(set(self.ns)) or self.ns[-1] > self.pool:
            raise ValueError(f"ns must ascend up to the pool, {self.pool}, got {self.ns}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Three worlds, fewer sizes and steps: every stage."""
    return Config(
        num_seeds=3, sizes=(25, 100, 940, 2000, 20000), test_pairs=2000, epochs=20, prompts=50
    )
