"""What safe_rl_minimal claims, on the grid and on the point robot; the unit is the seed."""

from collections.abc import Mapping

import numpy as np

from experiments.safe_rl_minimal.agents import Cell, cells
from experiments.safe_rl_minimal.config import Config
from experiments.safe_rl_minimal.robot import ARMS
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim

Arrays = Mapping[str, np.ndarray]
ALL, BEST, LUCKY, RECKLESS = range(len(ARMS))
FORGETTING = {"kind": "paper", "source": "abstract: optimistic forgetting; our reading of it"}


def name_of(config: Config, cell: Cell) -> str:
    """A cell in words."""
    forgetting = f", best {cell.keep} kept" if cell.keep else ""
    rho = "" if config.rhos[cell.rho] == config.rho else f" of rho {config.rhos[cell.rho]:g}"
    plural = "" if cell.demos == 1 else "s"
    steady = " without slips" if cell.steady else ""
    return f"{cell.demos} demonstration{plural}{steady}, {cell.walks} walks{rho}{forgetting}"


def final_lengths(config: Config, found: Arrays) -> dict[Cell, np.ndarray]:
    """Mean length over the last rounds [seeds]; an episode that misses the goal took all steps."""
    lengths = found["length"][:, :, -config.last :].mean((2, 3))
    return dict(zip(cells(config), lengths, strict=True))


def make_claims(config: Config, found: Arrays) -> list[Claim]:
    """Lengths with everything remembered; violations and successes over all rounds.

    The unit is the seed: its data and all its episodes.
    """
    usual, most = config.rhos.index(config.rho), max(config.walks)
    length = final_lengths(config, found)
    one, ten, thirty = (length[Cell(demos, 0, usual, 0)] for demos in (1, 10, 30))
    helped = length[Cell(1, most, usual, 0)]
    about = {"kind": "ours", "source": "reconstruction on LS3; the abstract has no numbers"}

    # What must fail (a): walks, which leave demonstrations nothing to add; (b): no walks.
    walked = [length[Cell(demos, most, usual, 0)] for demos in (30, 1)]
    claims = [
        bootstrap_claim(
            "(a) no walks: mean final length with 30 demonstrations over that with 1",
            ratio,
            (thirty, one),
            "<=",
            0.85,
            baseline=(f"the same with {most} walks", ratio(*walked)),
            **about,
        ),
        bootstrap_claim(
            f"(b) mean final length with 1 demonstration and {most} walks over that with 10 and 0",
            ratio,
            (helped, ten),
            "<=",
            1.05,
            baseline=("1 demonstration without walks", ratio(one, ten)),
            **about,
        ),
    ]
    claims += [
        claim for keep in (0, config.keep) for claim in rate_claims(config, found, keep, about)
    ]
    claims += slip_claims(config, found)
    return [*claims, grid_forgetting_claim(config, length)]


def ratio(over: np.ndarray, under: np.ndarray) -> float:
    """Of means over seeds."""
    return float(over.mean() / under.mean())


def slip_claims(config: Config, found: Arrays) -> list[Claim]:
    """One demonstration, everything kept: without slips it succeeds, and what slips in it cost is
    dead ends (episodes that neither reach the goal nor violate), not violations."""
    usual, least = config.rhos.index(config.rho), min(config.demos)
    shaken, steady = (cells(config).index(Cell(least, 0, usual, 0, clean)) for clean in (0, 1))
    success, violation, dead = (
        {i: rates[i].mean((1, 2)) for i in (shaken, steady)}
        for rates in (found["success"], found["violation"], dead_ends(found))
    )
    return [
        mean_claim(
            "(c) everything kept: successes with 1 demonstration without slips, 0 walks",
            success[steady],
            ">=",
            0.95,
            kind="ours",
            source="cause of the failure with slips removed",
            baseline=("with slips", float(success[shaken].mean())),
        ),
        mean_claim(
            "(d) everything kept: dead ends with 1 demonstration, less those without slips in it",
            dead[shaken] - dead[steady],
            ">",
            0.02,
            kind="ours",
            source="slips trap the planner; a fiftieth of the episodes",
            baseline=("violations", float((violation[shaken] - violation[steady]).mean())),
        ),
    ]


def dead_ends(found: Arrays) -> np.ndarray:
    """Episodes that neither reach the goal nor violate the constraint."""
    return ~(np.asarray(found["success"], bool) | np.asarray(found["violation"], bool))


def grid_forgetting_claim(config: Config, length: Mapping[Cell, np.ndarray]) -> Claim:
    """Where data is least, does forgetting shorten the paths?"""
    usual, least = config.rhos.index(config.rho), min(config.demos)
    kept, everything = (length[Cell(least, 0, usual, keep)] for keep in (config.keep, 0))
    others = [length[Cell(10, 0, usual, keep)] for keep in (config.keep, 0)]
    return bootstrap_claim(
        f"(e) grid, optimistic forgetting, {least} demonstration and 0 walks: mean final length "
        f"with the best {config.keep} kept over that with everything kept",
        ratio,
        (kept, everything),
        "<=",
        0.95,
        baseline=("10 demonstrations", ratio(*others)),
        **FORGETTING,
    )


def rate_claims(config: Config, found: Arrays, keep: int, about: Mapping) -> list[Claim]:
    """(c) the worst cell of the usual rho, by its mean over seeds; the walks must do worse."""
    usual = config.rhos.index(config.rho)
    rates = {
        what: {
            cell: found[what][i].mean((1, 2))
            for i, cell in enumerate(cells(config))
            if (cell.rho, cell.keep, cell.steady) == (usual, keep, 0)
        }
        for what in ("violation", "success")
    }
    alone = Cell(min(config.demos), 0, usual, keep)
    single = rates["success"].pop(alone)
    worst = {
        "violation": max(rates["violation"].items(), key=lambda item: item[1].mean()),
        "success": min(rates["success"].items(), key=lambda item: item[1].mean()),
    }
    walked = {
        what: ("the walks themselves", float(found[f"walk {what}"][:, usual].mean()))
        for what in worst
    }
    memory = f"best {keep} kept" if keep else "everything kept"
    (cell, violations), (other, successes) = worst["violation"], worst["success"]
    return [
        mean_claim(
            f"(c) {memory}: violations, worst cell ({name_of(config, cell)})",
            violations,
            "<=",
            0.05,
            baseline=walked["violation"],
            **about,
        ),
        mean_claim(
            f"(c) {memory}: successes, worst cell but the next ({name_of(config, other)})",
            successes,
            ">=",
            0.95,
            baseline=walked["success"],
            **about,
        ),
        mean_claim(
            f"(c) {memory}: successes with {name_of(config, alone)}",
            single,
            ">=",
            0.95,
            baseline=walked["success"],
            **about,
        ),
    ]


def robot_claims(config: Config, found: Arrays) -> list[Claim]:
    """The cross-entropy agent: safe, at the goal, in no dead end; and forgetting, which must do
    more than to remember as few at random."""
    size, keep = config.robot, config.keep
    dead = dead_ends(found)
    about = {"kind": "ours", "source": "the rates asked on the grid"}
    where = f"point robot, {size.demos} demonstrations, best {keep} kept"
    reckless = float(found["violation"][RECKLESS].mean())
    lost = ~(found["walk success"] | found["walk violation"])
    lengths = found["length"][:, :, -size.last :].mean((2, 3))
    return [
        mean_claim(
            f"{where}: violations",
            found["violation"][BEST].mean((1, 2)),
            "<=",
            0.05,
            baseline=(ARMS[RECKLESS], reckless),
            **about,
        ),
        mean_claim(
            f"{where}: successes",
            found["success"][BEST].mean((1, 2)),
            ">=",
            0.95,
            baseline=("the walks themselves", float(found["walk success"].mean())),
            **about,
        ),
        mean_claim(
            f"{where}: dead ends",
            dead[BEST].mean((1, 2)),
            "<=",
            0.05,
            baseline=("the walks themselves", float(lost.mean())),
            **about,
        ),
        bootstrap_claim(
            f"(e) point robot, optimistic forgetting, {size.demos} demonstrations: mean final "
            f"length with the best {keep} kept over that with everything kept",
            ratio,
            (lengths[BEST], lengths[ALL]),
            "<=",
            0.95,
            baseline=(f"{keep} successes kept at random", ratio(lengths[LUCKY], lengths[ALL])),
            **FORGETTING,
        ),
    ]
