"""Bandits, labels and what a policy is worth in them: NumPy in float64, on the host."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_softmax

from experiments.dpo_survey.config import Config


class Condition(NamedTuple):
    """pairs: labels bought. flip_rate: share of wrong ones. length_bias: nats a token is worth."""

    pairs: int
    flip_rate: float = 0.0
    length_bias: float = 0.0


class Worlds(NamedTuple):
    """rewards, ref_logps: [N, S, A]; lengths: [N, S, A] in tokens, as floats."""

    rewards: np.ndarray
    ref_logps: np.ndarray
    lengths: np.ndarray


def conditions(config: Config) -> dict[str, Condition]:
    """By name, in the order of all arrays."""
    return {
        "clean, many": Condition(config.many),
        "clean, few": Condition(config.few),
        "flips": Condition(config.some, flip_rate=config.flip_rate),
        "length": Condition(config.many, length_bias=config.length_bias),
    }


def draw_worlds(config: Config) -> Worlds:
    """One bandit for each seed."""
    rng = np.random.default_rng(config.seed)
    shape = config.num_seeds, config.prompts, config.answers
    rewards, logits = rng.standard_normal(shape), config.ref_scale * rng.standard_normal(shape)
    lengths = rng.integers(config.shortest, config.longest, size=shape, endpoint=True)
    return Worlds(rewards, log_softmax(logits, axis=-1), lengths.astype(float))


def label_probs(worlds: Worlds, condition: Condition) -> np.ndarray:
    """[N, S, A, A] P(the label says that row beats column)."""
    worth = worlds.rewards + condition.length_bias * worlds.lengths
    right = expit(worth[..., :, None] - worth[..., None, :])
    return (1 - condition.flip_rate) * right + condition.flip_rate * np.swapaxes(right, -1, -2)


def uniform_pairs(shape: tuple[int, ...]) -> np.ndarray:
    """[N, S, A, A] chance of each pair of two answers to a prompt, first and second; sum 1."""
    different = np.broadcast_to(~np.eye(shape[-1], dtype=bool), (*shape, shape[-1]))
    return different / different.sum(axis=(1, 2, 3), keepdims=True)


def draw_counts(
    rng: np.random.Generator, pairs: np.ndarray, labels: np.ndarray, count: int
) -> np.ndarray:
    """[N, S, A, A] how often row was labelled better than column, of `count` pairs for each N.

    Args:
      pairs: [N, S, A, A] chance that a pair is shown. labels: [N, S, A, A] of `label_probs`.
    """
    flat = pairs.reshape(len(pairs), -1)
    shown = rng.multinomial(count, flat / flat.sum(1, keepdims=True)).reshape(pairs.shape)
    won = rng.binomial(shown, labels)
    return won + np.swapaxes(shown - won, -1, -2)


def optimum(worlds: Worlds, beta: float) -> np.ndarray:
    """[N, S, A] log of pi_ref exp(r / beta) / Z."""
    return log_softmax(worlds.ref_logps + worlds.rewards / beta, axis=-1)


METRICS = ("gain", "KL from the optimum", "KL to the reference", "drift", "accuracy")


def measure(worlds: Worlds, logps: np.ndarray, beta: float) -> dict[str, np.ndarray]:
    """Each of METRICS, [N], means over the prompts, of policies [N, S, A].

    gain: E_pi[r] - E_ref[r]. KL from the optimum: KL(pi* || pi). KL to the reference: KL(pi ||
    pi_ref). drift: E_pi[length] - E_ref[length]. accuracy: share of pairs of answers that the
    log-ratio to the reference orders as the reward does.
    """
    best, ref = optimum(worlds, beta), worlds.ref_logps
    moved = np.exp(logps) - np.exp(ref)
    ratios = logps - ref
    above = worlds.rewards[..., :, None] > worlds.rewards[..., None, :]
    gaps = ratios[..., :, None] - ratios[..., None, :]
    right = (gaps > 0) + 0.5 * (gaps == 0)
    numbers = (
        (moved * worlds.rewards).sum(-1),
        (np.exp(best) * (best - logps)).sum(-1),
        (np.exp(logps) * ratios).sum(-1),
        (moved * worlds.lengths).sum(-1),
        (right * above).sum((-1, -2)) / above.sum((-1, -2)),
    )
    return {name: x.mean(-1) for name, x in zip(METRICS, numbers, strict=True)}
