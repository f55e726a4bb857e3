"""Sizes of shop_rewards. Each size is a function; every field is an option on the command line."""

from dataclasses import dataclass, field

from rlhf_jax.checks import check_fields
from rlhf_jax.labs.size import Size

KINDS = (
    "scalar",
    "separate",
    "repaired",
    "shared",
    "implicit",
    "curated",
    "features",
    "users",
    "spans",
    "corrections",
    "principles",
    "pairwise",
    "judge",
)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The pairs of every seed, and what all models are measured on.

    prompts: sampled for the pairs of a seed; ties are dropped, and the first `pairs` others kept.
    heldout: prompts of the held-out pairs. teacher_beta, tie_gap: as in `labs.shop.gold_teacher`.
    flipped: share of wrong labels. rho: correlation of the spurious mark with the label.
    pool_prompts, pool_answers: of the shared pool of samples of best-of-n.
    """

    prompts: int = 7800
    pairs: int = 3072
    heldout: int = 1200
    teacher_beta: float = 20.0
    tie_gap: float = 0.1
    flipped: float = 0.25
    rho: float = 0.8
    pool_prompts: int = 16
    pool_answers: int = 256

    def __post_init__(self):
        check_fields(self, "[2, 60000]", "prompts", "heldout", "pairs", "pool_prompts")
        check_fields(self, "[4, 1024]", "pool_answers")
        check_fields(self, "(0, inf)", "teacher_beta")
        check_fields(self, "[0, 1)", "tie_gap", "flipped")
        check_fields(self, "[-1, 1]", "rho")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Of every kind that is trained on pairs: as many steps of as many pairs.

    direct_rate: of kinds that are policies (implicit, corrections, pairwise, judge). beta: of DPO.
    """

    steps: int = 96
    batch_size: int = 32
    learning_rate: float = 0.0015
    direct_rate: float = 0.0005
    beta: float = 1.0

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps", "batch_size")
        check_fields(self, "(0, 1]", "learning_rate", "direct_rate")
        check_fields(self, "(0, inf)", "beta")


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """members: of ensembles. penalty: lambda of UWO, for standardised members. repaired: share of
    the pairs that a vote turns round. verified: pairs of the gold set of curation, which nobody has
    spoilt. judge: how often its judge is right."""

    members: int = 4
    penalty: float = 1.0
    repaired: float = 0.2
    verified: int = 256
    judge: float = 0.9

    def __post_init__(self):
        check_fields(self, "[2, inf)", "members", "verified")
        check_fields(self, "[0, inf)", "penalty")
        check_fields(self, "[0, 1]", "repaired", "judge")


@dataclass(frozen=True, kw_only=True)
class Users:
    """Two tastes: each of `count` users judges `each` pairs drawn from those of the seed, a share
    `minority` of the users by the opposite of what the others like. heldout: users of each taste
    who are measured."""

    count: int = 1024
    each: int = 16
    heldout: int = 48
    minority: float = 0.25
    taste_beta: float = 8.0
    steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 0.002
    latent_kl: float = 0.01

    def __post_init__(self):
        check_fields(self, "[2, inf)", "count", "heldout", "each")
        check_fields(self, "[1, inf)", "steps", "batch_size")
        check_fields(self, "(0, 1)", "minority")
        check_fields(self, "(0, inf)", "taste_beta", "latent_kl")
        check_fields(self, "(0, 1]", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """GRPO against a reward. prompts, samples: of a step. beta: weight of the KL penalty.

    points: of a run at which gold and KL are measured, on `measured` held-out prompts.
    """

    steps: int = 24
    prompts: int = 16
    samples: int = 4
    beta: float = 0.0
    learning_rate: float = 0.001
    points: int = 4
    measured: int = 160

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps", "prompts", "points")
        check_fields(self, "[2, inf)", "samples", "measured")
        check_fields(self, "[0, inf)", "beta")
        check_fields(self, "(0, 1]", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class Density:
    """PPO on the rewards of spans, paid where they are earned and in one sum at the end.

    prompts: of a step, an answer each. beta: weight of the KL penalty.
    """

    steps: int = 24
    prompts: int = 64
    beta: float = 0.05
    learning_rate: float = 0.0005

    def __post_init__(self):
        check_fields(self, "[1, inf)", "steps")
        check_fields(self, "[2, inf)", "prompts")
        check_fields(self, "[0, inf)", "beta")
        check_fields(self, "(0, 1]", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole run. seed: of the world. seeds: replications, each with pairs, wrong labels, marks,
    heads and an order of its own. kinds: names of KINDS with commas between them, or "all".
    policies: whether policies are trained on the rewards."""

    seed: int = 0
    seeds: int = 3
    kinds: str = "all"
    policies: bool = True
    from_scratch: bool = False
    size: Size = field(default_factory=Size)
    data: Data = field(default_factory=Data)
    training: Training = field(default_factory=Training)
    kind: Kinds = field(default_factory=Kinds)
    users: Users = field(default_factory=Users)
    policy: Policy = field(default_factory=Policy)
    density: Density = field(default_factory=Density)

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, 60]", "seeds")
        if unknown := [name for name in self.chosen() if name not in KINDS]:
            raise ValueError(f"kinds must be of {', '.join(KINDS)}, got {unknown[0]!r}")

    def chosen(self) -> tuple[str, ...]:
        """The kinds of this run."""
        return KINDS if self.kinds == "all" else tuple(self.kinds.split(","))


def default() -> Config:
    """Every kind from the shipped policy, with three seeds."""
    return Config()


def quick() -> Config:
    """Every stage with one seed, in less than three minutes: a check that all of it works."""
    return Config(
        seeds=1,
        data=Data(prompts=256, pairs=80, heldout=96, pool_prompts=8, pool_answers=16),
        training=Training(steps=6, batch_size=16),
        kind=Kinds(members=2, verified=32),
        users=Users(count=12, each=4, heldout=4, steps=20, batch_size=8),
        policy=Policy(steps=2, prompts=8, samples=2, points=1, measured=16),
        density=Density(steps=2, prompts=8),
    )
