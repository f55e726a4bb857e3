"""Sizes of the demo_reg_rl experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Law:
    """Episodes until UCBVI-Ent+ stops, on combination locks of 5 steps and 4 actions.

    num_seeds: locks. demos, epsilons: demonstrations N, rising, and accuracies eps, falling; the
      KL weight is eps / KL(expert || clone). linear_epsilons: of the linear MDPs.
    small: the exponents of the locks are fitted to eps at most this.
    bonuses: sizes of the bonus, that of the theorem besides; bonus: one of them, with all
      baselines. 0 is among them: nothing is uncertain once it was tried.
    growth: a plan serves so large a share of the episodes before it. most: episodes at most.
    """

    num_seeds: int = 10
    demos: tuple[int, ...] = (30, 100, 300, 1000)
    epsilons: tuple[float, ...] = (0.1, 1e-2, 1e-3, 1e-4, 1e-5)
    small: float = 1e-3
    linear_epsilons: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    bonuses: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
    bonus: float = 0.3
    growth: float = 0.2
    most: float = 1e13

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds")
        check_fields(self, "[1, inf)", "demos", "most")
        check_fields(self, "(0, inf)", "epsilons", "linear_epsilons", "small", "bonus", "growth")
        check_fields(self, "[0, inf)", "bonuses")
        if self.bonus not in self.bonuses or 0.0 not in self.bonuses:
            raise ValueError(f"bonuses must have 0 and {self.bonus:g}, got {self.bonuses}")
        if list(self.demos) != sorted(set(self.demos)) or len(self.demos) < 2:
            raise ValueError(f"demos must rise, two at least, got {self.demos}")
        for name in ("epsilons", "linear_epsilons"):
            falling = getattr(self, name)
            if list(falling) != sorted(set(falling), reverse=True) or len(falling) < 2:
                raise ValueError(f"{name} must fall, two at least, got {falling}")
        if sum(eps <= self.small for eps in self.epsilons) < 2:
            raise ValueError(f"epsilons must have two of at most {self.small:g}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run. MDPs have 5 steps, 5 states, 4 actions; locks 10 steps and 10 actions.

    seed: of everything. num_seeds: MDPs of "fast rate" and "lock". feedback_seeds: of "feedback".
    clone_seeds, clone_sets: MDPs of "cloning" and data sets of each. demos: their sizes, rising;
      log_linear: those of the log-linear class, whose fit takes `fit_steps` updates.
    betas: KL weights of "fast rate". episodes: of each run; the gap is fitted from the
      32nd part of them on.
    lock_demos: demonstrations of the lock. lock_times: episodes at which gaps are averaged.
    epsilon: accuracy asked for; the KL weight is epsilon / KL(expert || clone).
    pairs: numbers of compared pairs. penalties: KL weights when planning with fitted rewards.
    bonus: size of the bonus, variance and visits.
    panel: whether to run the law, `law`, in the place of all this.
    """

    seed: int = 0
    num_seeds: int = 10
    feedback_seeds: int = 100
    clone_seeds: int = 20
    clone_sets: int = 5
    demos: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    log_linear: tuple[int, ...] = (64, 256, 1024)
    fit_steps: int = 300
    betas: tuple[float, ...] = (0.5, 0.1, 0.02)
    episodes: int = 8_000
    lock_demos: tuple[int, ...] = (3, 10, 30, 100, 300)
    lock_times: tuple[int, ...] = (25, 50, 100, 200)
    epsilon: float = 0.05
    pairs: tuple[int, ...] = (30, 100, 300, 1000, 3000)
    penalties: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    bonus: float = 0.3
    panel: bool = False
    law: Law = Law()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "feedback_seeds", "clone_seeds")
        check_fields(self, "[1, inf)", "clone_sets", "fit_steps", "demos", "log_linear")
        check_fields(self, "[1, inf)", "lock_demos")
        check_fields(self, "[1, inf)", "lock_times", "pairs")
        check_fields(self, "(0, inf)", "betas", "epsilon")
        check_fields(self, "[0, inf)", "penalties", "bonus")
        for name in ("demos", "log_linear", "lock_demos", "lock_times", "pairs", "penalties"):
            sizes = getattr(self, name)
            if list(sizes) != sorted(set(sizes)):
                raise ValueError(f"{name} must rise, got {sizes}")
        if len(self.demos) < 3:
            raise ValueError(f"demos must be three at least, for a slope, got {self.demos}")
        if not {0.5, 0.1} <= set(self.betas):
            raise ValueError(f"betas must have 0.5 and 0.1, got {self.betas}")
        if not self.episodes >= 32 or self.episodes % 32:
            raise ValueError(f"episodes must be a multiple of 32, got {self.episodes}")
        if self.penalties[0] != 0 or 0.5 not in self.penalties:
            raise ValueError(f"penalties must begin with 0 and have 0.5, got {self.penalties}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Shorter runs and fewer data sets: every stage in seconds, most of them the compiler's."""
    return Config(
        feedback_seeds=10,
        clone_seeds=10,
        clone_sets=2,
        log_linear=(64, 256),
        fit_steps=100,
        betas=(0.5, 0.1),
        episodes=1_600,
        lock_demos=(10, 300),
        pairs=(30, 100, 300, 1000),
    )


def law() -> Config:
    """The law alone: episodes to stop, against demonstrations and accuracy."""
    return Config(panel=True)
