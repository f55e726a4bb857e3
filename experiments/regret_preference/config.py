"""Sizes of the regret_preference experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of boards, segments and labels.
    num_boards: random boards of `side` x `side` cells, each with its own weights.
    sizes: numbers of pairs of segments; each holds the smaller ones.
    segment_length: actions in a segment, all drawn uniformly.
    starts: of the regret model's fit, whose loss is not convex; the best after a few steps goes on.
    steps, rate: of Adam, full batch; the rate falls as 1 / (1 + step / 100).
    delivery_pairs: on the fixed 10 x 10 board.
    """

    seed: int = 0
    num_boards: int = 100
    side: int = 6
    sizes: tuple[int, ...] = (30, 100, 300, 1000)
    segment_length: int = 3
    starts: int = 5
    steps: int = 400
    rate: float = 0.3
    delivery_pairs: int = 300

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, inf)", "num_boards", "segment_length", "starts", "steps")
        check_fields(self, "[1, inf)", "delivery_pairs", "sizes")
        check_fields(self, "[3, inf)", "side")
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes must ascend, one at least, got {self.sizes}")
        if self.sizes[0] > 300:
            raise ValueError(f"sizes must begin in 1 .. 300, the few pairs, got {self.sizes}")
        check_fields(self, "(0, 1]", "rate")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer boards, two sizes, fewer steps: every stage."""
    return Config(num_boards=4, side=4, sizes=(30, 300), starts=2, steps=60, delivery_pairs=100)
