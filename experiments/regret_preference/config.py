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
    strengths: of the prior in fits of partial returns that have one, over its exact strength.
    delivery_pairs: on the fixed 10 x 10 board.
    win_weights: rewards of a win on boards with lotteries, where losing costs 50 and the goal pays
      50: a lottery is worth it above about 150. lottery_boards: for each of them; lottery_pairs: on
      each board.
    """

    seed: int = 0
    num_boards: int = 200
    side: int = 6
    sizes: tuple[int, ...] = (30, 100, 300, 1000)
    segment_length: int = 3
    starts: int = 12
    steps: int = 400
    rate: float = 0.3
    strengths: tuple[float, ...] = (0.1, 1.0, 10.0)
    delivery_pairs: int = 300
    win_weights: tuple[float, ...] = (100.0, 130.0, 170.0, 200.0)
    lottery_boards: int = 50
    lottery_pairs: int = 300

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, inf)", "num_boards", "segment_length", "starts", "steps")
        check_fields(self, "[1, inf)", "delivery_pairs", "sizes", "lottery_boards", "lottery_pairs")
        check_fields(self, "[3, inf)", "side")
        check_fields(self, "(0, inf)", "strengths")
        check_fields(self, "(-inf, inf)", "win_weights")
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
    return Config(
        num_boards=4,
        side=4,
        sizes=(30, 300),
        starts=2,
        steps=60,
        delivery_pairs=100,
        lottery_boards=2,
        lottery_pairs=100,
    )
