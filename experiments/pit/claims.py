"""What is claimed of the pit runs, from E q by rounds [seeds, rounds + 1] of each improver."""

from collections.abc import Mapping

import numpy as np

from experiments.pit.config import Config
from experiments.pit.learners import AGAIN, EDITOR, PIT, RANDOM, REVERSED
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Arrays = Mapping[str, np.ndarray]
SPEC = "acceptance of this design, from a NumPy run of it"
OURS = "equal numbers of drawn answers; any lead"


def gains(quality: np.ndarray) -> np.ndarray:
    """What each round adds, [seeds, rounds]."""
    return np.diff(quality, axis=-1)


def later_share(quality: np.ndarray) -> np.ndarray:
    """What all rounds after the first add, over what the first adds, [seeds]."""
    found = gains(quality)
    return found[:, 1:].sum(-1) / found[:, 0]


def size(config: Config) -> str:
    """The sizes in words."""
    return f"{config.bits} bits, {config.pairs} pairs, beta {config.beta:g}"


def round_claims(config: Config, found: Arrays) -> list[Claim]:
    """Rounds improve answers, less and less."""
    rises = {name: np.all(gains(found[name]) > 0, axis=-1) for name in (PIT, REVERSED)}
    first = {name: gains(found[name])[:, 0] for name in (PIT, RANDOM, EDITOR)}
    ahead = {name: first[name] > 3 * first[EDITOR] for name in (PIT, RANDOM)}
    changes = {name: np.diff(gains(found[name])).max(-1) for name in (PIT, REVERSED)}
    return [
        Claim(
            f"Share of the worlds of this run in which E q rises in each of {config.rounds} rounds "
            f"of PIT, {size(config)}",
            np.mean(rises[PIT]),
            ">=",
            0.9,
            kind="ours",
            source=SPEC,
            baseline=(REVERSED, np.mean(rises[REVERSED])),
        ),
        Claim(
            "Share of the worlds of this run in which the first round of PIT gains more than three "
            f"times what the SFT editor does, {size(config)}",
            np.mean(ahead[PIT]),
            ">=",
            1.0,
            kind="ours",
            source=SPEC,
            baseline=(RANDOM, np.mean(ahead[RANDOM])),
        ),
        mean_claim(
            "Largest change of the gain from a round of PIT to the next, "
            f"{config.rounds} rounds, {size(config)}",
            changes[PIT],
            "<",
            0.0,
            kind="ours",
            source=SPEC,
            baseline=(REVERSED, changes[REVERSED].mean()),
        ),
        mean_claim(
            f"Gain of rounds 2 to {config.rounds} of PIT over that of the first, {size(config)}",
            later_share(found[PIT]),
            "<",
            1.0,
            kind="ours",
            source="rounds are a Markov chain; its editor alone, which mixes slowly, is above 1",
            baseline=(EDITOR, later_share(found[EDITOR]).mean()),
        ),
    ]


def rival_claims(config: Config, found: Arrays) -> list[Claim]:
    """Improving beats drawing again with the same number of drawn answers."""
    rounds = config.rounds
    ends = {name: found[name][:, [1, rounds]] for name in (PIT, EDITOR, AGAIN)}
    wins = {name: found[f"win rate: {name}"] for name in (PIT, EDITOR, AGAIN)}
    claims = [
        mean_claim(
            f"E q after {count} of PIT minus best of {number + 1} answers of the base policy by a "
            f"reward model of the same pairs, {size(config)}",
            ends[PIT][:, i] - ends[AGAIN][:, i],
            ">",
            0.0,
            kind="ours",
            source=OURS,
            baseline=("SFT editor minus the same", (ends[EDITOR] - ends[AGAIN])[:, i].mean()),
        )
        for i, (number, count) in enumerate(((1, "a round"), (rounds, f"{rounds} rounds")))
    ]
    return [
        *claims,
        mean_claim(
            "Win rate over y_0 of its improvement by one round of PIT, minus that of the better of "
            f"y_0 and another answer by the reward model, {size(config)}",
            wins[PIT] - wins[AGAIN],
            ">",
            0.0,
            kind="paper",
            source="7 to 34% better than the original answers; ahead of other ways to draw again",
            baseline=("SFT editor minus the same", (wins[EDITOR] - wins[AGAIN]).mean()),
        ),
    ]


def trained_claims(config: Config, found: Arrays) -> list[Claim]:
    """A trained table reaches the closed form."""
    sizes, exact = config.trained, found["exact"]
    far = np.abs(found["sampled"][..., 1] - found["optimum, sampled"][:, 1:])
    return [
        mean_claim(
            "Total variation of the table to the closed form, exact policy gradient, "
            f"{sizes.steps} steps, mean over answers of the base policy, {size(config)}",
            exact[:, -1, 0],
            "<=",
            0.02,
            kind="ours",
            source="the maximiser of E gap - beta KL is editor exp(gap / beta) / Z",
            baseline=("the editor, where it starts", exact[:, 0, 0].mean()),
        ),
        mean_claim(
            "|E q after a round - that of the closed form|, sampled PPO on "
            f"{sizes.references} references, {sizes.samples} answers to each, {sizes.batches} "
            f"batches, {size(config)}",
            far[:, -1],
            "<=",
            0.1,
            kind="ours",
            source="a twentieth of the first round's gain, which is above 2",
            baseline=("the editor, where it starts", far[:, 0].mean()),
        ),
    ]


def all_claims(config: Config, closed: Arrays, trained: Arrays) -> list[Claim]:
    """In the order of the page."""
    return [
        *round_claims(config, closed),
        *rival_claims(config, closed),
        *trained_claims(config, trained),
    ]
