"""What is claimed of interventions as rewards, and what must fail each claim."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.rlif.config import Config
from experiments.rlif.learners import LATE, LATE_PROPOSAL, MAIN, OFFICIAL
from experiments.rlif.pendulum import clone_names
from experiments.rlif.worlds import TEACHERS
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import (
    mean_claim,
    mean_interval,
    near_end,
    share_claim,
    share_interval,
)

Arrays = Mapping[str, np.ndarray]
JUDGES = TEACHERS[:2]  # the teachers who look at values
BAD = 0.25  # from this share of bad states on, the claims compare with the expert
POOR = 0.5  # up to this score of an expert on the pendulum, likewise


class Levels(NamedTuple):
    """Scores after training: rlif and rivals name -> [bads, seeds, teachers]; expert [bads,
    seeds]."""

    rlif: Arrays
    rivals: Arrays
    expert: np.ndarray


def last_scores(found: Mapping[str, Arrays]) -> Levels:
    """Of the stages "rlif", "rivals", "dagger" and "exact"."""
    last = {
        stage: {name: x[..., -1] for name, x in found[stage].items() if not name.endswith(", led")}
        for stage in ("rlif", "rivals", "dagger")
    }
    return Levels(last["rlif"], last["rivals"] | last["dagger"], found["exact"]["expert"])


def best_rival(rivals: Arrays, bad: int, judge: int) -> str:
    """The imitator with the highest mean over grids, picked on the grids that it is measured on."""
    return max(rivals, key=lambda name: rivals[name][bad, :, judge].mean())


def make_claims(config: Config, levels: Levels) -> list[Claim]:
    """Who gets the -1 decides, and when the teacher reacts. Means over states that live; the unit
    is a grid."""
    claims = []
    for i, bad in enumerate(config.bads):
        place = f"{bad:.0%} bad states"
        if bad >= BAD:
            for j, judge in enumerate(JUDGES):
                case = f"{place}, teacher judges by {judge}"
                claims += [
                    *prompt_claims(levels, i, j, case),
                    late_claim(levels, i, j, case),
                    rival_claim(levels, i, j, case),
                ]
        claims += level_claims(levels, i, place)
    return claims


def prompt_claims(levels: Levels, i: int, j: int, case: str) -> list[Claim]:
    """A teacher who rejects proposals: our label, and that of the official code."""
    expert, ours, paper = levels.expert[i], levels.rlif[MAIN][i], levels.rlif[OFFICIAL][i]
    idle = "teacher at random"
    beaten, led = share_interval(ours[:, -1] > expert), mean_interval(paper[:, -1] - expert)
    return [
        share_claim(
            f"RLIF, -1 on the proposal, {case}: grids on which it beats the expert",
            ours[:, j] > expert,
            ">=",
            0.9,
            kind="ours",
            source="the label that a table can learn from",
            baseline=near_end(idle, beaten, ">="),
        ),
        mean_claim(
            f"RLIF, -1 on the previous step, {case}: lead over the expert",
            paper[:, j] - expert,
            ">",
            0.0,
            kind="paper",
            source="label of the official code",
            baseline=near_end(idle, led, ">"),
        ),
    ]


def late_claim(levels: Levels, i: int, j: int, case: str) -> Claim:
    """A teacher who reacts to where an action led: then the previous step is the one to blame."""
    expert, wrong = levels.expert[i], levels.rlif[LATE_PROPOSAL][i, :, j]
    return share_claim(
        f"RLIF, -1 on the previous step, late teacher, {case}: grids on which it beats the expert",
        levels.rlif[LATE][i, :, j] > expert,
        ">=",
        0.9,
        kind="paper",
        source="label of the official code, for a teacher who reacts one step late",
        baseline=near_end("-1 on the proposal", share_interval(wrong > expert), ">="),
    )


def rival_claim(levels: Levels, i: int, j: int, case: str) -> Claim:
    """Against the best of the imitators of the same teacher and expert, at equal steps."""
    rivals, ours = levels.rivals, levels.rlif[MAIN][i]
    rival, idle = best_rival(rivals, i, j), best_rival(rivals, i, len(TEACHERS) - 1)
    random = mean_interval(ours[:, -1] - rivals[idle][i, :, -1])
    return mean_claim(
        f"RLIF, -1 on the proposal, {case}: lead over the best of {len(rivals)} imitators",
        ours[:, j] - rivals[rival][i, :, j],
        ">",
        0.0,
        kind="paper",
        source="beats DAgger-style cloning; tuned rival, known only in hindsight",
        baseline=near_end("teacher at random", random, ">"),
    )


def level_claims(levels: Levels, i: int, place: str) -> Sequence[Claim]:
    """Near-optimal whatever the expert, for a teacher who judges by Q*: prompt and late."""
    found = []
    for name, words, wrong in (
        (MAIN, "-1 on the proposal", levels.rlif[MAIN][i, :, -1]),
        (LATE, "-1 on the previous step, late teacher", levels.rlif[LATE_PROPOSAL][i, :, 0]),
    ):
        failing = "teacher at random" if name == MAIN else "-1 on the proposal"
        found.append(
            mean_claim(
                f"RLIF, {words}, {place}, teacher judges by {JUDGES[0]}: V / V*",
                levels.rlif[name][i, :, 0],
                ">=",
                0.9,
                kind="ours",
                source="near-optimal whatever the expert",
                baseline=near_end(failing, mean_interval(wrong), ">="),
            )
        )
    return found


def swing_claims(config: Config, found: Arrays) -> list[Claim]:
    """The pendulum: RLIF against checkpoints that act in takeovers and their best imitator. The
    unit is a seed, with a best agent of its own."""
    last = {name: x[..., -1] for name, x in found.items() if x.ndim == 3}
    claims = []
    for i, share in enumerate(config.swing.shares):
        if share <= POOR:
            claims += poor_expert_claims(config, last, found["expert"][i], i)
    shares = config.swing.shares
    worst, best = shares.index(min(shares)), shares.index(max(shares))
    rivals = [last[best_clone(config, last, i)][i] for i in (worst, best)]
    claims.append(
        mean_claim(
            f"pendulum: score of RLIF, -1 on the proposal, expert at {shares[worst]:.0%} less "
            f"expert at {shares[best]:.0%}",
            last["proposal"][worst] - last["proposal"][best],
            ">=",
            -0.1,
            kind="paper",
            source="stays high as the expert gets worse; threshold ours",
            baseline=near_end("best imitators", mean_interval(rivals[0] - rivals[1]), ">="),
        )
    )
    return claims


def best_clone(config: Config, last: Arrays, i: int) -> str:
    """The imitator of expert i with the highest mean over the seeds that it is measured on."""
    return max(clone_names(config), key=lambda name: last[name][i].mean())


def poor_expert_claims(config: Config, last: Arrays, expert: np.ndarray, i: int) -> list[Claim]:
    """Leads of RLIF over one expert, and over the best of those who imitate it."""
    case = f"pendulum, expert at {config.swing.shares[i]:.0%}: RLIF"
    rival = last[best_clone(config, last, i)][i]
    idle = last["at random"][i]
    late = mean_interval(last["late: proposal"][i] - expert)
    beaten, led = (
        near_end("teacher at random", mean_interval(idle - x), ">") for x in (expert, rival)
    )
    cases = (
        ("-1 on the proposal, lead over the expert", "proposal", expert, beaten, "ours"),
        ("-1 on the previous step, lead over the expert", "previous", expert, beaten, "paper"),
        (
            "-1 on the previous step, late teacher, lead over the expert",
            "late: previous",
            expert,
            near_end("-1 on the proposal", late, ">"),
            "paper",
        ),
        (
            f"-1 on the proposal, lead over the best of {len(clone_names(config))} imitators",
            "proposal",
            rival,
            led,
            "paper",
        ),
    )
    return [
        mean_claim(
            f"{case}, {words}",
            last[name][i] - against,
            ">",
            0.0,
            kind=kind,
            source="networks, DDPG; scores from uniform torques (0) to the best agent (1)",
            baseline=baseline,
        )
        for words, name, against, baseline, kind in cases
    ]
