"""Reward-model losses of comparisons as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, integer, lengths_mask, prob, real

from rlhf_jax.losses.reward import (
    bradley_terry_loss,
    centring_penalty,
    davidson_loss,
    deterministic_regrets,
    margin_bradley_terry_loss,
    partial_return_loss,
    partial_returns,
    plackett_luce_loss,
    rao_kupper_loss,
    regret_preference_loss,
    segment_regrets,
    signed_bradley_terry_loss,
    smoothed_bradley_terry_loss,
    soft_bradley_terry_loss,
    soft_margin_bradley_terry_loss,
)

PAIR = (real(), real())
TIED = (*PAIR, integer(-1, 2))
STEPS = (real(5), real(5), lengths_mask(5), lengths_mask(5))
SEGMENT = (real(5), real(), real(), lengths_mask(5))

CASES = {
    "bradley_terry": Case(bradley_terry_loss, PAIR, (0, 1)),
    "margin_bradley_terry": Case(margin_bradley_terry_loss, (*PAIR, real()), (0, 1)),
    "smoothed_bradley_terry": Case(
        partial(smoothed_bradley_terry_loss, label_smoothing=0.1), PAIR, (0, 1)
    ),
    "soft_bradley_terry": Case(
        soft_bradley_terry_loss, (*PAIR, prob()), (0, 1), extremes=False
    ),  # p in [0, 1]
    "soft_margin_bradley_terry": Case(
        soft_margin_bradley_terry_loss, (*PAIR, prob(), real()), (0, 1), extremes=False
    ),  # p in [0, 1]
    "centring": Case(centring_penalty, PAIR, (0, 1)),
    "signed_bradley_terry": Case(signed_bradley_terry_loss, TIED, (0, 1)),
    "rao_kupper": Case(partial(rao_kupper_loss, theta=1.5), TIED, (0, 1)),
    "davidson": Case(partial(davidson_loss, nu=0.7), TIED, (0, 1)),
    "plackett_luce": Case(
        plackett_luce_loss, (real(4), lengths_mask(4)), (0,), mask=1, masked=(0,)
    ),
    "partial_returns": Case(
        partial(partial_returns, gamma=0.9), (real(5), lengths_mask(5)), (0,), mask=1, masked=(0,)
    ),
    "partial_return_loss": Case(partial_return_loss, STEPS, (0, 1)),
    "deterministic_regrets": Case(
        partial(deterministic_regrets, gamma=0.9), SEGMENT, (0, 1, 2), mask=3, masked=(0,)
    ),
    "segment_regrets": Case(
        segment_regrets, (real(5), real(5), lengths_mask(5)), (0, 1), mask=2, masked=(0, 1)
    ),
    "regret_preference": Case(regret_preference_loss, PAIR, (0, 1)),
}
SWEPT = {
    "smoothed_bradley_terry": Sweep(
        smoothed_bradley_terry_loss, "label_smoothing", PAIR, (0.0, 0.1, 0.4)
    ),
    "rao_kupper": Sweep(rao_kupper_loss, "theta", TIED, (1.0, 1.5, 3.0)),
    "davidson": Sweep(davidson_loss, "nu", TIED, (0.0, 0.5, 2.0)),
    "partial_return_loss": Sweep(partial_return_loss, "gamma", STEPS, (0.0, 0.9, 1.0)),
    "deterministic_regrets": Sweep(deterministic_regrets, "gamma", SEGMENT, (0.0, 0.9, 1.0)),
}
