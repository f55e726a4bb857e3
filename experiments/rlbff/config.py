"""Sizes of the rlbff experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Offsets:
    """Prompts that are easier or harder to answer well.

    prompts: of them. spread: standard deviation of their log-odds of yes.
    """

    prompts: int = 60
    spread: float = 2.5

    def __post_init__(self):
        check_fields(self, "[1, inf)", "prompts")
        check_fields(self, "[0, inf)", "spread")


@dataclass(frozen=True, kw_only=True)
class ShopSizes:
    """Comments on answers of shop assistants.

    num_seeds: worlds. answers: commented on, by three annotators each. prompts, pool: held out, and
      answers to each.
    words: features of an answer, at most.
    salient: principles that an answer is about. notice, remark: probability that a comment names
      one of them, and one of the others.
    careful, careless: probability that the verdict is right for them.
    invented, misquoted: share of comments to which the extractor adds a point of its own, and of
      quotes in which it drops a letter.
    """

    num_seeds: int = 5
    answers: int = 1_000
    prompts: int = 40
    pool: int = 16
    words: int = 120
    salient: int = 2
    notice: float = 0.8
    remark: float = 0.1
    careful: float = 0.95
    careless: float = 0.6
    invented: float = 0.05
    misquoted: float = 0.1

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds", "pool")
        check_fields(self, "[1, inf)", "answers", "prompts", "words")
        check_fields(self, "[1, 6]", "salient")
        names = ("notice", "remark", "careful", "careless", "invented", "misquoted")
        check_fields(self, "[0, 1]", *names)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: sets of true principles.
    principles, features, scale: K directions u_k of length `scale` in so many dimensions.
    items: of feedback, each about one principle; as many pairs for Bradley-Terry.
    test: items, and pairs, to measure on.
    l2, rate, steps: of every fit, full-batch Adam.
    pool, prompts: answers to a prompt for best-of-n, and prompts.
    chosen: principles that must hold together.
    wrong: share of feedback that names a wrong principle, with three annotators an answer.
    offsets, shop: the other panels.
    """

    seed: int = 0
    num_seeds: int = 30
    principles: int = 8
    features: int = 16
    scale: float = 2.0
    items: int = 3_000
    test: int = 4_000
    l2: float = 1e-3
    rate: float = 0.05
    steps: int = 400
    pool: int = 64
    prompts: int = 200
    chosen: int = 3
    wrong: float = 0.3
    offsets: Offsets = Offsets()
    shop: ShopSizes = ShopSizes()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "principles")
        check_fields(self, "[1, inf)", "features", "test", "steps", "prompts")
        check_fields(self, "[16, inf)", "pool")
        check_fields(self, "(0, inf)", "scale")
        check_fields(self, "[0, inf)", "l2")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, 1)", "wrong")
        check_fields(self, f"[1, {self.principles}]", "chosen")
        if self.items < 3 or self.items % 3:
            raise ValueError(f"items must be a multiple of three annotators, got {self.items}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer seeds, items and steps: every panel in seconds."""
    return Config(
        num_seeds=3,
        items=900,
        test=1_000,
        steps=100,
        prompts=50,
        shop=ShopSizes(num_seeds=2, answers=200, prompts=10),
    )
