"""What is claimed of a world. The unit is a seed: its data and all its episodes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.safe_rl_minimal.cells import (
    ALL,
    BEST,
    LATEST,
    RANDOM,
    Cell,
    fewest,
    kept_name,
    name_of,
    plain,
    warned,
)
from experiments.safe_rl_minimal.config import Config, RobotConfig
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import (
    bootstrap_claim,
    bootstrap_interval,
    mean_claim,
    mean_interval,
    near_end,
)

ABSTRACT = {"kind": "paper", "source": "abstract; it has no numbers"}
OURS = {"kind": "ours", "source": "reconstruction on LS3; the abstract has no numbers"}


class Sweep(NamedTuple):
    """A world's name, its config, its cells, and what was found in them: "length", "success",
    "violation" [cells, seeds, iterations, episodes], "safe cells" [cells, seeds, iterations];
    "demo length", "demo success" [seeds, demos], "walk success", "walk violation" [seeds, rhos,
    walks]."""

    world: str
    config: Config | RobotConfig
    cells: list[Cell]
    found: Mapping[str, np.ndarray]

    def final(self, cell: Cell) -> np.ndarray:
        """[seeds] mean length of the last rounds; all steps where an episode misses the goal."""
        lengths = self.found["length"][self.cells.index(cell)]
        return lengths[:, -self.config.last :].mean((1, 2))

    def rate(self, what: str, cell: Cell) -> np.ndarray:
        """[seeds] share of the episodes of all rounds; what: success, violation, dead end."""
        return self.episodes(what, cell).mean((1, 2))

    def episodes(self, what: str, cell: Cell) -> np.ndarray:
        """[seeds, iterations, episodes]; a dead end is neither a success nor a violation."""
        i = self.cells.index(cell)
        if what == "dead end":
            return ~(self.found["success"][i] | self.found["violation"][i])
        return self.found[what][i]

    def walks(self, what: str) -> np.ndarray:
        """[seeds] the same of the walks of the usual rho."""
        usual = self.config.rhos.index(self.config.rho)
        successes, violations = (self.found[f"walk {x}"] for x in ("success", "violation"))
        rows = {"success": successes, "violation": violations}
        rows["dead end"] = ~(successes | violations)
        return rows[what][:, usual].mean(1)


def ratio(over: np.ndarray, under: np.ndarray) -> float:
    """Of means over seeds."""
    return float(over.mean() / under.mean())


def ratio_claim(
    statement: str, over: np.ndarray, under: np.ndarray, op: str, threshold: float, **about: Any
) -> Claim:
    """A claim about a ratio of means; `rival`: (name, over, under) of one that must fail it."""
    name, *units = about.pop("rival")
    rival = near_end(name, bootstrap_interval(ratio, *units), op)
    return bootstrap_claim(statement, ratio, (over, under), op, threshold, baseline=rival, **about)


def world_claims(sweep: Sweep) -> list[Claim]:
    """All but those of the slips, which only the grid has."""
    return [
        *data_claims(sweep),
        *(claim for memory in (0, BEST) for claim in safety_claims(sweep, memory)),
        forgetting_claim(sweep, fewest(sweep.config)),
        balance_claim(sweep),
    ]


def data_claims(sweep: Sweep) -> list[Claim]:
    """(a) demonstrations shorten paths, (b) walks stand in for them."""
    config, most = sweep.config, max(sweep.config.walks)
    one, ten, thirty = (sweep.final(plain(config, demos, 0)) for demos in (1, 10, 30))
    helped, spoilt = (sweep.final(plain(config, demos, most)) for demos in (1, 30))
    return [
        ratio_claim(
            f"{sweep.world}, (a) no walks: mean final length with 30 demonstrations over that "
            "with 1",
            thirty,
            one,
            "<=",
            0.85,
            rival=(f"the same with {most} walks, which replace them", spoilt, helped),
            **OURS,
        ),
        ratio_claim(
            f"{sweep.world}, (b) mean final length with 1 demonstration and {most} walks over that "
            "with 10 and 0",
            helped,
            ten,
            "<=",
            1.05,
            rival=("1 demonstration and 0 walks", one, ten),
            **OURS,
        ),
    ]


def safety_claims(sweep: Sweep, memory: int) -> list[Claim]:
    """(c) violations, dead ends and successes of the worst cell of the usual rho.

    The walks themselves must fail. One demonstration alone has claims of its own.
    """
    config = sweep.config
    usual = [plain(config, d, w, memory) for w in config.walks for d in config.demos]
    alone = fewest(config, memory)
    others = [cell for cell in usual if cell != alone]
    words = f"best {config.keep} kept" if memory else "everything kept"
    start = f"{sweep.world}, (c) {words}"

    def one(what: str, cells: list[Cell], op: str, threshold: float, which: str) -> Claim:
        pick = max if op == "<=" else min
        cell = pick(cells, key=lambda cell: sweep.rate(what, cell).mean())
        return mean_claim(
            f"{start}: rate of {what}, {which}{name_of(config, cell)}",
            sweep.rate(what, cell),
            op,
            threshold,
            baseline=near_end("the walks themselves", mean_interval(sweep.walks(what)), op),
            **OURS,
        )

    return [
        one("violation", usual, "<=", 0.05, "worst: "),
        one("dead end", others, "<=", 0.05, "worst but the next: "),
        one("dead end", [alone], "<=", 0.05, ""),
        one("success", others, ">=", 0.95, "worst but the next: "),
        one("success", [alone], ">=", 0.95, ""),
    ]


def forgetting_claim(sweep: Sweep, start: Cell) -> Claim:
    """(d) the best successes kept against the best of all other memories; any few must fail.

    Args:
      start: the cell that keeps everything.
    """
    config = sweep.config
    best, random = (
        sweep.final(start._replace(memory=memory, keep=config.keep)) for memory in (BEST, RANDOM)
    )
    others = [
        cell
        for cell in sweep.cells
        if cell.memory in (ALL, LATEST) and cell._replace(memory=ALL, keep=0) == start
    ]
    rival = min(others, key=lambda cell: sweep.final(cell).mean())
    return ratio_claim(
        f"{sweep.world}, (d) optimistic forgetting, {name_of(config, start)}: mean final length "
        f"with the best {config.keep} kept over that of the best rival ({kept_name(rival)} kept)",
        best,
        sweep.final(rival),
        "<",
        1.0,
        rival=(f"{config.keep} at random kept", random, sweep.final(rival)),
        **ABSTRACT,
    )


def balance_claim(sweep: Sweep) -> Claim:
    """(e) walks between random and straight ones."""
    config = sweep.config
    least, most = min(config.demos), max(config.walks)
    usual = plain(config, least, most)
    ends = [usual._replace(rho=config.rhos.index(rho)) for rho in (config.rhos[0], config.rhos[-1])]
    end = min(ends, key=lambda cell: sweep.final(cell).mean())
    return ratio_claim(
        f"{sweep.world}, (e) diversity and direction: mean final length with {most} walks of rho "
        f"{config.rho:g} over that of the better extreme, rho {config.rhos[end.rho]:g}",
        sweep.final(usual),
        sweep.final(end),
        "<",
        1.0,
        rival=("no walks", sweep.final(fewest(config)), sweep.final(end)),
        **ABSTRACT,
    )


def safe_set_claim(sweep: Sweep) -> Claim:
    """(f) what the safe set is worth: a planner without it explores by optimism."""
    alone = fewest(sweep.config)

    def more(cell: Cell, other: Cell) -> np.ndarray:
        return sweep.rate("success", cell) - sweep.rate("success", other)

    forgetful = mean_interval(more(fewest(sweep.config, BEST), alone))
    return mean_claim(
        f"{sweep.world}, (f) rate of success with a safe set less that of a planner without one, "
        f"{name_of(sweep.config, alone)}",
        more(alone, alone._replace(free=1)),
        ">=",
        0.05,
        kind="ours",
        source="LS3: plans that end in the safe set can be completed",
        baseline=near_end("best kept less all kept", forgetful, ">="),
    )


def wall_claims(sweep: Sweep) -> list[Claim]:
    """Where the robot knows the wall, as LS3 does: (c) for many demonstrations, with which it cuts
    corners otherwise; (d) for few."""
    config = sweep.config
    most = max(config.demos)
    cell, unwarned = warned(config, most), plain(config, most, 0)
    safe = mean_claim(
        f"{sweep.world}, (c) everything kept: rate of violation, {name_of(config, cell)}",
        sweep.rate("violation", cell),
        "<=",
        0.05,
        kind="ours",
        source="cause of the violations: LS3 is told of the wall, by 50 such trajectories",
        baseline=near_end("0 walks", mean_interval(sweep.rate("violation", unwarned)), "<="),
    )
    return [safe, forgetting_claim(sweep, warned(config, min(config.demos)))]


def slip_claim(sweep: Sweep) -> Claim:
    """(c) dead ends with one demonstration come from slips in it."""
    alone = fewest(sweep.config)
    steady = alone._replace(steady=1)
    shaken = mean_interval(sweep.rate("success", alone))
    return mean_claim(
        f"{sweep.world}, (c) everything kept: rate of success, {name_of(sweep.config, steady)}",
        sweep.rate("success", steady),
        ">=",
        0.95,
        kind="ours",
        source="cause of the failure, with slips removed",
        baseline=near_end("with slips", shaken, ">="),
    )
