"""Sizes of the causal_survey experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """Labels that are unfair to the authors of one group.

    pairs, tests: of a world. bias: log-odds that an answer of group A gains over one of group B.
    hidden: units of the reward. steps, rate: of Adam. adversary: scale of the reversed gradient.
    correlation: weight of the squared correlation.
    """

    pairs: int = 1000
    tests: int = 4000
    bias: float = 2.0
    hidden: int = 16
    steps: int = 500
    rate: float = 0.01
    adversary: float = 3.0
    correlation: float = 10.0

    def __post_init__(self):
        check_fields(self, "[20, 1000000]", "pairs", "tests")
        check_fields(self, "[0, 20]", "bias")
        check_fields(self, "[2, 1000]", "hidden")
        check_fields(self, "[1, 1000000]", "steps")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, inf)", "adversary", "correlation")


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A small transformer of which only an adapter is trained, or all of it.

    num_seeds: worlds. pairs, tests: of a world. width, layers: of the model. rank: of the adapter.
    pretrain_steps: on older pairs whose labels follow quality and the mark. steps: after that.
    batch_size: pairs of a step. rate, adapter_rate: of Adam. rhos: of the two environments.
    vrex: its penalty.
    """

    num_seeds: int = 4
    pairs: int = 2048
    tests: int = 400
    width: int = 16
    layers: int = 1
    rank: int = 2
    pretrain_steps: int = 150
    steps: int = 100
    batch_size: int = 32
    rate: float = 0.01
    adapter_rate: float = 0.02
    rhos: tuple[float, ...] = (0.9, 0.5)
    vrex: float = 10.0

    def __post_init__(self):
        check_fields(self, "[2, 1000]", "num_seeds")
        check_fields(self, "[20, 1000000]", "pairs", "tests")
        check_fields(self, "[2, 256]", "width")
        check_fields(self, "[1, 12]", "layers")
        check_fields(self, "[1, 16]", "rank")
        check_fields(self, "[1, 1000000]", "pretrain_steps", "steps", "batch_size")
        check_fields(self, "(0, 1]", "rate", "adapter_rate")
        check_fields(self, "(-1, 1)", "rhos")
        check_fields(self, "[0, inf)", "vrex")
        if len(self.rhos) != 2:
            raise ValueError(f"rhos must be of two environments, got {self.rhos}")
        if self.width % 4:
            raise ValueError(f"width must be a multiple of 4, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class ShopPanel:
    """The language panel: pairs of the shop with marks, rewards on the shipped SFT policy.

    num_seeds: pairs, heads and orders of their own. prompts: sampled; ties are dropped and the
    first `pairs` others kept, `heldout` of others to measure on. teacher_beta, tie_gap: as in
    `labs.shop.gold_teacher`. rhos: correlation of the mark with the label, of the two environments;
    shifted: of the test. steps, batch_size, rate: AdamW. vrex, correlation: penalties. eta: of
    group DRO.
    """

    num_seeds: int = 1
    prompts: int = 1600
    pairs: int = 640
    heldout: int = 400
    teacher_beta: float = 20.0
    tie_gap: float = 0.1
    rhos: tuple[float, ...] = (0.9, 0.5)
    shifted: float = -0.8
    steps: int = 60
    batch_size: int = 32
    rate: float = 1.5e-3
    vrex: float = 10.0
    correlation: float = 3.0
    eta: float = 0.1

    def __post_init__(self):
        check_fields(self, "[1, 60]", "num_seeds")
        check_fields(self, "[2, 60000]", "prompts", "pairs", "heldout")
        check_fields(self, "(0, inf)", "teacher_beta")
        check_fields(self, "[0, 1)", "tie_gap")
        check_fields(self, "(-1, 1)", "rhos", "shifted")
        check_fields(self, "[1, 1000000]", "steps", "batch_size")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, inf)", "vrex", "correlation", "eta")
        if len(self.rhos) != 2:
            raise ValueError(f"rhos must be of two environments, got {self.rhos}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds of linear rewards, all in one vmap.
    pairs: of each training environment. tests: of each test set.
    rhos: correlation of the feature with the label, of the training environments. spread: of the
      feature.
    steps, rate: of Adam on all pairs at once, cosine to 0.
    vrex, irm, correlation, mmd: penalties. irm_warm: share of the steps without one.
    eta: of group DRO. radius: of the worst case. mmd_pairs: pairs that MMD compares.
    ridges: of the tuned baseline, chosen on held-out pairs of the training environments.
    pool: items of the policy. kl: nats that it moves.
    fair, adapted: the other panels. panel: whether the shop is run too.
    """

    seed: int = 0
    num_seeds: int = 10
    pairs: int = 2000
    tests: int = 4000
    rhos: tuple[float, ...] = (0.9, 0.5)
    spread: float = 1.5
    steps: int = 500
    rate: float = 0.05
    vrex: float = 10.0
    irm: float = 100.0
    irm_warm: float = 0.25
    correlation: float = 20.0
    mmd: float = 20.0
    mmd_pairs: int = 256
    eta: float = 0.05
    radius: float = 3.0
    ridges: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1)
    pool: int = 20_000
    kl: float = 3.0
    fair: Fairness = Fairness()
    adapted: Adapted = Adapted()
    panel: bool = False
    shop: ShopPanel = ShopPanel()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, 1000]", "num_seeds")
        check_fields(self, "[20, 1000000]", "pairs", "tests", "pool")
        check_fields(self, "(-1, 1)", "rhos")
        check_fields(self, "(0, inf)", "spread")
        check_fields(self, "[4, 1000000]", "steps")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, inf)", "vrex", "irm", "correlation", "mmd", "eta", "radius")
        check_fields(self, "(0, 1)", "irm_warm")
        check_fields(self, f"[2, {2 * self.pairs}]", "mmd_pairs")
        check_fields(self, "[0, 1000]", "ridges")
        check_fields(self, "(0, 8]", "kl")
        if len(self.rhos) != 2:
            raise ValueError(f"rhos must be of two environments, got {self.rhos}")


def default() -> Config:
    """The published run, without the shop."""
    return Config()


def quick() -> Config:
    """Every stage with fewer worlds, pairs and steps."""
    return Config(
        num_seeds=4,
        pairs=600,
        tests=1000,
        steps=300,
        mmd_pairs=96,
        pool=5000,
        fair=Fairness(pairs=400, tests=1000, steps=200),
        adapted=Adapted(num_seeds=2, pairs=512, tests=200, pretrain_steps=60, steps=40),
    )


def shop() -> Config:
    """The quick size of everything else, with the shop."""
    return Config(panel=True)
