"""What is claimed of the dpa runs, from E[r] [seeds, rounds + 1, asked, 2] of each method."""

from collections.abc import Mapping

import numpy as np

from experiments.dpa.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Arrays = Mapping[str, np.ndarray]
SPEC = "acceptance of this design, from a NumPy run of it: 9 worlds of 10"


def asked_for(config: Config) -> np.ndarray:
    """[asked, 2] directions, as `learners.directions_asked`."""
    angles = np.radians(np.linspace(-config.angle, config.angle, config.asked))
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def values(config: Config, rewards: np.ndarray) -> np.ndarray:
    """E[v . r] of the policy that is asked for w, [..., v, w]."""
    return np.einsum("vj,...wj->...vw", asked_for(config), rewards)


def support(config: Config, rewards: np.ndarray) -> np.ndarray:
    """Mean over v of the highest E[v . r] that any direction asked for gives, [...]."""
    return values(config, rewards).max(-1).mean(-1)


def single(config: Config, rewards: np.ndarray) -> np.ndarray:
    """`support` of the policy that is asked for the first reward alone: what it is trained for."""
    middle = config.asked // 2
    return support(config, rewards[..., middle : middle + 1, :])


def lost(config: Config, rewards: np.ndarray) -> np.ndarray:
    """What asking for v itself loses to the best direction for v, the largest over v, [...]."""
    found = values(config, rewards)
    return (found.max(-1) - np.einsum("...vv->...v", found)).max(-1)


def rises(rewards: np.ndarray) -> np.ndarray:
    """Whether E[r_2] rises at every step of the angle, [seeds]."""
    return np.all(np.diff(rewards[..., 1], axis=-1) > 0, axis=-1)


def matches(config: Config, rewards: np.ndarray) -> np.ndarray:
    """Whether the best direction for every v is v or next to it, [seeds]."""
    best = values(config, rewards).argmax(-1)
    return np.all(np.abs(best - np.arange(config.asked)) <= 1, axis=-1)


def all_claims(config: Config, runs: Arrays) -> list[Claim]:
    """In the order of the page."""
    return [
        *round_claims(config, runs),
        *control_claims(config, runs),
        *rival_claims(config, runs),
    ]


def share(statement: str, hits: np.ndarray, other: tuple[str, np.ndarray]) -> Claim:
    """A share of the worlds that were drawn."""
    return Claim(
        f"Share of the worlds of this run in which {statement}",
        np.mean(hits),
        ">=",
        0.9,
        kind="ours",
        source=SPEC,
        baseline=(other[0], np.mean(other[1])),
    )


def size(config: Config) -> str:
    """A round in words."""
    return (
        f"{config.prompts} prompts, {config.directions} directions each, best of {config.samples}, "
        f"{config.steps} steps a round"
    )


def round_claims(config: Config, runs: Arrays) -> list[Claim]:
    """Each round moves the front outwards."""
    found = {name: support(config, runs[name]) for name in ("DPA", "K = 1")}
    grows = {name: np.all(np.diff(x) > 0, axis=-1) for name, x in found.items()}
    later = {name: x[:, -1] - x[:, 1] for name, x in found.items()}
    return [
        share(
            f"the support value of DPA rises in each of {config.rounds} rounds, {size(config)}",
            grows["DPA"],
            ("K = 1", grows["K = 1"]),
        ),
        mean_claim(
            f"Support value gained from round 1 to {config.rounds}: DPA minus the same with K = 1, "
            f"{size(config)}",
            later["DPA"] - later["K = 1"],
            ">",
            0.0,
            kind="paper",
            source="figure of the validation front: t = 4 lies beyond t = 1",
            baseline=("DPA stopped after a round", -later["K = 1"].mean()),
        ),
    ]


def control_claims(config: Config, runs: Arrays) -> list[Claim]:
    """The direction that is asked for is the one that is served."""
    ends = {name: runs[name][:, -1] for name in ("DPA", "direction not read")}
    step = 2 * config.angle / (config.asked - 1)
    grid = f"{config.asked} directions {step:g} degrees apart"
    dpa, blind = ends["DPA"], ends["direction not read"]
    return [
        share(
            f"the second reward of DPA rises at every step of the angle, {grid}",
            rises(dpa),
            ("the same rounds, direction not read", rises(blind)),
        ),
        share(
            f"for each of {grid}, the best one to ask DPA for is itself or a neighbour",
            matches(config, dpa),
            ("the same rounds, direction not read", matches(config, blind)),
        ),
        mean_claim(
            f"DPA, second reward asked for at {config.angle:g} degrees minus that at "
            f"-{config.angle:g}",
            dpa[:, -1, 1] - dpa[:, 0, 1],
            ">",
            0.0,
            kind="paper",
            source="figure of the validation front: verbosity 42.4 to 58.5 by the direction",
            baseline=("direction not read", (blind[:, -1, 1] - blind[:, 0, 1]).mean()),
        ),
    ]


def rival_claims(config: Config, runs: Arrays) -> list[Claim]:
    """One policy for all directions against one for a single direction, and against labels."""
    dpa, blind = support(config, runs["DPA"]), single(config, runs["direction not read"])[:, -1]
    one, labels = single(config, runs["one direction"])[:, -1], support(config, runs["labels"])
    ahead, same = dpa[:, -1] - one, blind - one
    return [
        share(
            "DPA has a higher support value than the same rounds on the first reward alone, "
            f"{config.rounds} rounds, {size(config)}",
            ahead > 0,
            ("direction not read", same > 0),
        ),
        mean_claim(
            "DPA minus the same rounds on the first reward alone, support value",
            ahead,
            ">",
            0.0,
            kind="paper",
            source="figure of the validation front: the points of SFT and DPO lie within it",
            baseline=("direction not read minus the same", same.mean()),
        ),
        mean_claim(
            "DPA after one round minus SFT on as many uniform answers with labels of their own "
            f"direction (SteerLM-like), {config.steps} steps each, support value",
            dpa[:, 1] - labels[:, 1],
            ">",
            0.0,
            kind="paper",
            source="figure of the validation front: SteerLM lies within it",
            baseline=("DPA before a round", (dpa[:, 0] - labels[:, 1]).mean()),
        ),
    ]
