"""EGPO's simulations: who reaches the regularised Nash policy, at which step, under which noise."""

from functools import partial

import numpy as np

from experiments.egpo import claims, suite
from experiments.egpo.config import Config
from experiments.egpo.report import write_report
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """The suite at two betas, the bias of the penalty, noise, too large steps, a network."""

    works = {
        "suite-0.1": partial(suite.run_suite, config, 0.1, config.updates[0]),
        "suite-0.01": partial(suite.run_suite, config, 0.01, config.updates[1]),
        "bias": partial(suite.run_bias, config),
        "noise": partial(suite.run_noise, config),
        **{f"guard-{beta}": partial(suite.run_guard, config, beta) for beta in suite.GUARD_ETAS},
        "tuned": partial(suite.run_tuned, config),
        "network": partial(suite.run_network, config),
    }
    found = run_stages(job, works, x64=True)
    strong, weak, bias, noise = (found[name] for name in list(works)[:4])
    guards = {beta: found[f"guard-{beta}"] for beta in suite.GUARD_ETAS}
    shared = found["network"]

    made = all_claims(config, strong, weak, bias, noise, guards, found["tuned"])
    rows = [row(name, config, strong[name], weak[name]) for name in strong if name != "closed form"]
    table = Table(
        "Share of games with a gap below 1e-6; updates and last gap, medians over games",
        ("method", "beta 0.1", "updates", "last gap", "beta 0.01", "updates", "last gap"),
        rows,
        note=f"{config.num_seeds} draws of {config.games} games; EGPO calls the oracle twice in "
        "an update, the others once",
    )
    write_report(job, config, (strong, weak, bias, noise, guards, shared), made, table)
    numbers = {
        "rows": rows,
        "share of games by draw": {
            f"{name}, beta {beta}": claims.share(config, results[name]).tolist()
            for beta, results in ((0.1, strong), (0.01, weak))
            for name in ("EGPO", "OMD", "Nash-MD", "Online IPO 2")
        },
        "beta 0.01, OMD by rate over the authors': share of games, median updates": {
            f"{rate:g}": [float((reached < suite.NEVER).mean()), float(np.median(reached))]
            for rate, reached in zip(suite.TUNED, found["tuned"]["reached"], strict=True)
        },
        "range of updates to 1e-6 at beta 0.1": ranges(strong),
        "range of updates to 1e-6 at beta 0.01": ranges(weak),
        "factor of KL per update": {
            "0.1": claims.kl_rate(strong).factor,
            "0.01": claims.kl_rate(weak).factor,
        },
        "noise floor, mean over games, [eta][samples]": {
            name: floors.mean(-1).tolist() for name, floors in noise.items()
        },
        "noise floor, slope in eta": {
            name: claims.slopes(np.moveaxis(floors, 0, 1), config.noise_etas).mean(-1).tolist()
            for name, floors in noise.items()
        },
        "exploitability, worst game": bias["exploitability"].max(-1).tolist(),
        "last gap of the network, median over games": {
            name: np.median(gaps[:, -1], axis=-1).tolist()
            for name, gaps in shared.items()
            if name != "times"
        },
    }
    return Outcome(made, numbers, table)


def all_claims(config: Config, strong, weak, bias, noise, guards, tuned) -> list[Claim]:
    """In the order of the page."""
    return [
        *claims.share_claims(config, strong, weak),
        *claims.median_claims(config, strong, weak),
        claims.tuned_claim(config, weak, tuned),
        *claims.linear_claims(config, strong, weak),
        claims.bias_claim(bias),
        *claims.noise_claims(config, noise),
        *(claim for beta, ends in guards.items() for claim in claims.guard_claims(beta, ends)),
    ]


def ranges(results: dict) -> dict[str, list[int]]:
    """First and last update at which a game came below 1e-6, of methods with which all did."""
    return {
        name: [int(results[name]["reached"].min()), int(results[name]["reached"].max())]
        for name in ("EGPO", "OMD")
        if results[name]["reached"].max() < suite.NEVER
    }


def row(name: str, config: Config, *results: dict) -> tuple:
    """Of the table: for each beta, the share of games, updates and the last gap."""
    cells = [name]
    for result in results:
        middle = int(np.median(result["reached"]))
        cells.append(f"{claims.share(config, result).mean():.0%}")
        cells.append(str(middle) if middle < suite.NEVER else None)
        cells.append(f"{np.median(result['end']):.1e}")
    return tuple(cells)
