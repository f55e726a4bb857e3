"""Safe-set control: how much do demonstrations, unsupervised walks and forgetting matter?

Only the abstract of the paper was at hand. The agent is LS3 on a table, and forgetting is a reading
of the abstract: nothing here is the paper's algorithm.
"""

from collections.abc import Mapping

import numpy as np

from experiments.safe_rl_minimal.agents import Cell, cells, run_all
from experiments.safe_rl_minimal.config import Config
from experiments.safe_rl_minimal.report import write_report
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """All cells of the sweep at once; claims on those that remember everything."""
    found = run_stages(job, {"agents": lambda: run_all(config)})["agents"]
    claims = make_claims(config, found)
    table = cells_table(config, found)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, found), table=table)


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

    def ratio(over: np.ndarray, under: np.ndarray) -> float:
        return float(over.mean() / under.mean())

    claims = [
        bootstrap_claim(
            "(a) no walks: mean final length with 30 demonstrations over that with 1",
            ratio,
            (thirty, one),
            "<=",
            0.85,
            **about,
        ),
        bootstrap_claim(
            f"(b) mean final length with 1 demonstration and {most} walks over that with 10 and 0",
            ratio,
            (helped, ten),
            "<=",
            1.05,
            **about,
        ),
    ]
    claims += [
        claim for keep in (0, config.keep) for claim in rate_claims(config, found, keep, about)
    ]
    shaken, steady = (
        found["success"][cells(config).index(Cell(min(config.demos), 0, usual, 0, clean))]
        for clean in (0, 1)
    )
    return [
        *claims,
        mean_claim(
            "(c) everything kept: successes with 1 demonstration without slips, 0 walks",
            steady.mean((1, 2)),
            ">=",
            0.95,
            kind="ours",
            source="cause of the failure with slips removed",
            baseline=("with slips", float(shaken.mean())),
        ),
    ]


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


def cells_table(config: Config, found: Arrays) -> Table:
    """A row for each cell."""
    rows = []
    for i, (cell, lengths) in enumerate(final_lengths(config, found).items()):
        rows.append(
            (
                name_of(config, cell),
                lengths.mean(),
                lengths.std(ddof=1) if len(lengths) > 1 else 0.0,
                int(np.sum(lengths > config.steps / 2)),
                found["success"][i].mean(),
                found["violation"][i].mean(),
                found["safe cells"][i, :, -1].mean(),
            )
        )
    demo = found["demo length"].mean()
    return Table(
        "Final length, and rates over all rounds",
        (
            *("data", "length", "sd over seeds", f"seeds above {config.steps // 2}"),
            *("success", "violation", "safe cells"),
        ),
        rows,
        note=f"length: mean steps to the goal over the last {config.last} rounds, {config.steps} "
        f"for episodes that miss it; {config.num_seeds} seeds; demonstrations take {demo:.1f}",
    )


def summary(config: Config, found: Arrays) -> dict:
    """Of the data; of the cells see the table's file."""
    lengths = final_lengths(config, found)
    return {
        "demonstrations: length": float(found["demo length"].mean()),
        "demonstrations: success": float(found["demo success"].mean()),
        "walks: success, by rho": found["walk success"].mean((0, 2)).tolist(),
        "walks: violation, by rho": found["walk violation"].mean((0, 2)).tolist(),
        "length": {name_of(config, cell): float(each.mean()) for cell, each in lengths.items()},
        "median length": {
            name_of(config, cell): float(np.median(each)) for cell, each in lengths.items()
        },
    }
