"""What HERON's lights are held to, and the page of the junctions; the unit is a seed."""

from collections.abc import Mapping

import numpy as np

from experiments.heron import PAPER
from experiments.heron.config import Config, Traffic
from experiments.heron.traffic import WORLDS, methods, traffic_runs
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Outcome, Table, behind_gates
from rlhf_jax.reports.intervals import mean_claim
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
MOST = 0.15  # the shortfall asked on the pendulum
SAVED = 0.1  # of the travel time of the best fixed cycle


def run_traffic(config: Config, job: Run) -> Outcome:
    """The junctions."""
    size = config.traffic
    found = run_stages(job, {"traffic": lambda: traffic_runs(config)})["traffic"]
    travel = dict(zip(methods(size), found["travel"], strict=True))
    claims = traffic_claims(travel)
    table = travel_table(size, travel)
    save_stages(job.out, {"traffic": found})
    rounds = 1 + np.arange(size.rounds)
    searched = methods(size)[: len(found["curve"])]
    panel = Panel(
        "mean travel time of the population",
        "rounds of the search",
        "steps",
        {name: band(rounds, each) for name, each in zip(searched, found["curve"], strict=True)},
        log_y=True,
    )
    write_page(
        job.out,
        "HERON: the lights of two junctions",
        lead="Six factors of an episode are ranked or weighed; the travel time is none of them.",
        paper=PAPER,
        claims=claims,
        figures={
            "traffic": show_panels(
                [panel],
                "The search",
                "Travel time of the lights that are tried, on whatever they are scored.",
                "HERON falls as fast as the travel time itself, the reversed ranking does not",
                columns=1,
            )
        },
        table=table,
    )
    kinds = {"sum": "switches", "switches": "?", "HERON, ": "?", "HERON reversed": "?"}
    numbers = {f"best {start}": best(travel, start, but)[0] for start, but in kinds.items()}
    return Outcome(claims, numbers, table)


def best(travel: Arrays, start: str, but: str = "?") -> tuple[str, np.ndarray]:
    """The method of a kind with the least mean travel time in the world of training, over the seeds
    that the claims are about, which favours it.

    start: of its name. but: what its name must not hold.
    """
    names = [name for name in travel if start in name and but not in name]
    name = min(names, key=lambda name: travel[name][:, 0].mean())
    return name, travel[name]


def excess(travel: np.ndarray, rival: np.ndarray) -> np.ndarray:
    """Relative, seed by seed; travel times are positive, less is better."""
    return travel / rival - 1


def traffic_claims(travel: Arrays) -> list[Claim]:
    """HERON against tuned sums as trained, in each changed world and in an odd unit; the search
    comes first."""
    heron, reverse = travel["HERON, sigma 1"], travel["HERON reversed, sigma 1"]
    _, rival = best(travel, "sum", but="switches")
    fixed, odd = travel["fixed cycle"], best(travel, "switches")[1]
    gate = mean_claim(
        "junctions, search on the travel time: saved of the best fixed cycle's",
        -excess(travel["travel time"], fixed)[:, 0],
        ">=",
        SAVED,
        kind="ours",
        source="the task is learnt: lights that see queues are better than a clock",
        baseline=("random search", -excess(travel["random search"], fixed)[:, 0].mean()),
    )
    claims = [
        mean_claim(
            f"junctions, {world}: HERON's excess over the best weighted sum",
            excess(heron, rival)[:, i],
            "<=",
            MOST,
            kind="paper",
            source="as good as tuned weights, in changed worlds too; the margin of the pendulum",
            baseline=("ranking reversed", excess(reverse, rival)[:, i].mean()),
        )
        for i, world in enumerate(WORLDS)
    ]
    tuned, turned = best(travel, "HERON, ")[1], best(travel, "HERON reversed")[1]
    below = {
        "as trained: HERON's excess over the best weighted sum": (heron, reverse, rival, 0),
        "as trained: excess of HERON at its best sigma over the best sum": (
            tuned,
            turned,
            rival,
            0,
        ),
        "changed worlds: HERON's excess over the best weighted sum": (heron, reverse, rival, 1),
        "as trained, odd unit: HERON's excess over the best raw sum": (heron, reverse, odd, 0),
    }
    for name, (ours, other, against, first) in below.items():
        worlds = slice(first, None if first else 1)
        claims.append(
            mean_claim(
                f"junctions, {name}, below 0",
                excess(ours, against)[:, worlds].mean(1),
                "<",
                0,
                kind="paper",
                source="better than tuned weights, whatever the units",
                baseline=("ranking reversed", excess(other, against)[:, worlds].mean()),
            )
        )
    return behind_gates([gate], claims)


def travel_table(size: Traffic, travel: Arrays) -> Table:
    """Methods as rows, worlds as columns."""

    def cell(values: np.ndarray) -> str:
        return f"{values.mean():.2f} [{values.min():.2f}, {values.max():.2f}]"

    rows = [
        (name, *(cell(each[:, i]) for i in range(len(WORLDS)))) for name, each in travel.items()
    ]
    return Table(
        "Two junctions: mean travel time in steps",
        ("lights searched on", *WORLDS),
        rows,
        note=f"mean [least, largest] of {size.num_seeds} seeds, {size.starts} episodes each",
    )
