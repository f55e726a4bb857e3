"""Sizes of the trilemma experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: populations of each panel.
    shares: of the groups in the labels, the majority first.
    overlap: a minority's values are overlap V_0 + fresh ones, V_0 the majority's.
    flip_rate: of the labels of the cost and price panels. kappa: Bradley-Terry labels elsewhere.
    precision: of the prior of linear rewards.
    target: error of the worst-off group that has to be reached.
    bits: d of the cost panel; growth, linear_growth: of the labels from one measurement to the
      next, of tables and of linear rewards.
    per_context: the most labels that are tried, of a context of the smallest group; of one of its
      weights eight times as many.
    labels: of the triangle. triangle_bits: d of it. attack: share of a minority's labels there
      that are replaced by the majority's.
    price_bits: d of the price panel, one of `bits` or less. attacks: further flips of it.
    mix_bits: d, mixes: share of the values' variance that no feature tells. many: times `labels`.
    core_bits: d of the people with hidden groups; people, comparisons of each, cores: values that
      are fitted; rounds, restarts: of EM.
    betas: KL weights of the collapse panel; margin: of both options, for each group; steps, rate:
      of DPO; dual_steps: of the max-min policy.
    """

    seed: int = 0
    num_seeds: int = 10
    shares: tuple[float, ...] = (0.70, 0.15, 0.10, 0.05)
    overlap: float = 0.3
    flip_rate: float = 0.1
    kappa: float = 2.2
    precision: float = 0.01
    target: float = 0.05
    bits: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9, 10)
    growth: float = 1.15
    linear_growth: float = 1.25
    per_context: int = 24
    labels: int = 4000
    triangle_bits: tuple[int, ...] = (4, 8, 12)
    attack: float = 0.2
    price_bits: int = 7
    attacks: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    mix_bits: int = 8
    mixes: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    many: int = 10
    core_bits: int = 8
    people: int = 200
    comparisons: int = 20
    cores: tuple[int, ...] = (1, 2, 4)
    rounds: int = 8
    restarts: int = 3
    betas: tuple[float, ...] = (1.0, 0.5, 0.2, 0.1, 0.05)
    margin: float = 1.0
    steps: int = 400
    rate: float = 0.1
    dual_steps: int = 1000

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "many", "people", "steps", "dual_steps")
        check_fields(self, "(0, 1)", "shares")
        check_fields(self, "[0, 10]", "overlap")
        check_fields(self, "[0, 1/2)", "flip_rate", "target")
        check_fields(self, "(0, 100]", "kappa", "margin", "betas", "precision")
        check_fields(self, "[2, 14]", "bits", "triangle_bits", "price_bits", "mix_bits")
        check_fields(self, "[2, 14]", "core_bits")
        check_fields(self, "(1, 10]", "growth", "linear_growth")
        check_fields(self, "[1, 1000]", "per_context", "comparisons", "rounds", "restarts")
        check_fields(self, "[1, 1000000]", "labels")
        check_fields(self, "[0, 1]", "attack", "mixes")
        check_fields(self, "[0, 1/2)", "attacks")
        check_fields(self, "[1, inf)", "cores")
        check_fields(self, "(0, 1]", "rate")
        check_order(self)


def check_order(config: Config) -> None:
    """What the claims compare must be there, in order."""
    shares = config.shares
    if len(shares) < 2 or abs(sum(shares) - 1) > 1e-6 or sorted(shares)[::-1] != list(shares):
        raise ValueError(f"shares must fall, two or more, and add up to 1, got {shares}")
    if shares[0] <= 0.5:
        raise ValueError(f"shares must have a majority above 1/2 first, got {shares}")
    if round(shares[-1] * config.people) < 2:
        raise ValueError(f"people must leave two to the smallest group, got {config.people}")
    for name, least in (("bits", 3), ("triangle_bits", 2), ("mixes", 3), ("cores", 2)):
        _check_rises(name, getattr(config, name), least)
    _check_rises("attacks", config.attacks, 3)
    if config.triangle_bits[-1] < 8:
        raise ValueError(f"triangle_bits must reach 8, got {config.triangle_bits}")
    if config.price_bits > config.bits[-1]:
        raise ValueError(f"price_bits must be at most {config.bits[-1]}, got {config.price_bits}")
    if config.attacks[0] != 0:
        raise ValueError(f"attacks must begin with 0, got {config.attacks}")
    if (config.mixes[0], config.mixes[-1]) != (0, 1):
        raise ValueError(f"mixes must go from 0 to 1, got {config.mixes}")
    if config.cores[0] != 1:
        raise ValueError(f"cores must begin with 1, got {config.cores}")
    if len(config.betas) < 2 or list(config.betas) != sorted(set(config.betas))[::-1]:
        raise ValueError(f"betas must fall, two or more, got {config.betas}")


def _check_rises(name: str, values: tuple, least: int) -> None:
    if len(values) < least or list(values) != sorted(set(values)):
        raise ValueError(f"{name} must rise, {least} or more, got {values}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Three populations, fewer bits and sizes: every stage."""
    return Config(
        num_seeds=3,
        bits=(3, 4, 5),
        growth=1.2,
        triangle_bits=(4, 8),
        linear_growth=1.5,
        price_bits=3,
        attacks=(0.0, 0.2, 0.3),
        mix_bits=6,
        mixes=(0.0, 0.5, 1.0),
        core_bits=4,
        cores=(1, 4),
        rounds=5,
        restarts=2,
        betas=(1.0, 0.05),
        steps=200,
    )
