"""EGPO's simulations: who reaches the regularised Nash policy, at which step, under which noise."""

from collections.abc import Callable

import jax
import numpy as np

from experiments.egpo import suite
from experiments.egpo.config import Config
from experiments.egpo.report import write_report
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.rates import Rate, fit_rate, rate_claim
from rlhf_jax.training import Run, run_stage


def run(config: Config, job: Run) -> Outcome:
    """The suite at two betas, the bias of the penalty, noise, too large steps, a network."""

    def stage(name: str, work: Callable, *args) -> dict:
        def double(_):
            with jax.enable_x64(True):
                return work(config, *args), {}

        return run_stage(job, name, double).arrays

    strong = stage("suite-0.1", suite.run_suite, 0.1, config.updates[0])
    weak = stage("suite-0.01", suite.run_suite, 0.01, config.updates[1])
    bias = stage("bias", suite.run_bias)
    noise = stage("noise", suite.run_noise)
    guards = {beta: stage(f"guard-{beta}", suite.run_guard, beta) for beta in suite.GUARD_ETAS}
    shared = stage("network", suite.run_network)

    rates = {0.1: kl_rate(strong), 0.01: kl_rate(weak)}
    claims = [
        *suite_claims(config, strong, weak),
        *linear_claims(config, strong, weak, rates),
        Claim("exploitability over 2 beta log n, worst", bias_share(bias), "<=", 1.0),
        *noise_claims(config, noise),
        *(claim for beta, ends in guards.items() for claim in guard_claims(beta, ends)),
    ]
    rows = [row(name, config, strong[name], weak[name]) for name in strong if name != "closed form"]
    table = Table(
        "Gaps below 1e-6: games of 10, mean over draws; updates and last gap, medians over games",
        ("method", "beta 0.1", "updates", "last gap", "beta 0.01", "updates", "last gap"),
        rows,
        note=f"{config.num_seeds} draws of {config.games} games",
    )
    write_report(job, config, (strong, weak, bias, noise, guards, shared), claims, table)
    counts = {
        f"{name}, beta {beta}": per_draw(config, results[name]).tolist()
        for beta, results in ((0.1, strong), (0.01, weak))
        for name in ("EGPO", "OMD", "Nash-MD", "Online IPO 2")
    }
    numbers = {
        "rows": rows,
        "games of 10 by draw": counts,
        "range of updates to 1e-6 at beta 0.1": ranges(strong),
        "range of updates to 1e-6 at beta 0.01": ranges(weak),
        "factor of KL per update": {str(beta): rate.factor for beta, rate in rates.items()},
        "noise floor, mean over games, [eta][samples]": {
            name: floors.mean(-1).tolist() for name, floors in noise.items()
        },
        "noise floor, slope in eta": {
            name: slopes(np.moveaxis(floors, 0, 1), config.noise_etas)
            for name, floors in noise.items()
        },
        "exploitability, worst game": bias["exploitability"].max(-1).tolist(),
        "last gap of the network, median over games": {
            name: np.median(gaps[:, -1], axis=-1).tolist()
            for name, gaps in shared.items()
            if name != "times"
        },
    }
    return Outcome(claims, numbers, table)


def per_draw(config: Config, result: dict, before: float = np.inf) -> np.ndarray:
    """[draws] games of ten that came below 1e-6 before this update."""
    reached = np.asarray(result["reached"])
    done = (reached < suite.NEVER) & (reached < before)
    return 10.0 * done.reshape(config.num_seeds, config.games).mean(-1)


def kl_rate(results: dict) -> Rate:
    """Of EGPO, over its updates, by game."""
    times, kl = results["EGPO"]["times"], results["EGPO"]["kl"]
    return fit_rate(times[1:], kl[1:].T, law="linear", floor=1e-12)


def bias_share(bias: dict) -> float:
    """Largest exploitability as a share of its bound."""
    return float(np.max(bias["exploitability"] / bias["bound"][:, None]))


def slopes(floors: np.ndarray, x: tuple) -> list[float]:
    """Slope in x, log-log, of floors [..., x, games], for each of the leading index."""
    return [fit_rate(x, each.T, law="power").slope for each in floors]


def ranges(results: dict) -> dict[str, list[int]]:
    """First and last update at which a game came below 1e-6, of methods with which all did."""
    return {
        name: [int(results[name]["reached"].min()), int(results[name]["reached"].max())]
        for name in ("EGPO", "OMD")
        if results[name]["reached"].max() < suite.NEVER
    }


def suite_claims(config: Config, strong: dict, weak: dict) -> list[Claim]:
    """Who gets below 1e-6, and when. Windows are the ranges of ten other games."""
    early = per_draw(config, weak["EGPO"], config.late).min()
    egpo, omd = (float(np.median(strong[name]["reached"])) for name in ("EGPO", "OMD"))
    half = float(np.median(strong["Nash-MD, half mixture"]["end"]))

    def share(results: dict, name: str) -> float:
        return float(per_draw(config, results[name]).mean())

    return [
        Claim(f"beta 0.01, EGPO: of 10 by update {config.late}, worst draw", early, ">=", 10),
        Claim("beta 0.01, OMD: of 10 by the end", share(weak, "OMD"), "<=", 6),
        Claim("beta 0.01, online IPO 2: of 10", share(weak, "Online IPO 2"), "==", 0),
        Claim("beta 0.01, Nash-MD-PG: of 10", share(weak, "Nash-MD-PG"), "==", 0),
        Claim("beta 0.1, EGPO: median updates, least", egpo, ">=", 130),
        Claim("beta 0.1, EGPO: median updates, most", egpo, "<=", 160),
        Claim("beta 0.1, OMD: median updates, least", omd, ">=", 140),
        Claim("beta 0.1, OMD: median updates, most", omd, "<=", 180),
        Claim("beta 0.1, online IPO 2: of 10", share(strong, "Online IPO 2"), ">=", 6),
        Claim("beta 0.1, Nash-MD: of 10", share(strong, "Nash-MD"), "==", 0),
        Claim("beta 0.1, Nash-MD, half mixture: floor, least", half, ">=", 1.25e-5),
        Claim("beta 0.1, Nash-MD, half mixture: floor, most", half, "<=", 5e-5),
    ]


def linear_claims(config: Config, strong: dict, weak: dict, rates: dict) -> list[Claim]:
    """The rate of the theorem, and that regression is mirror prox."""
    claims = []
    for (beta, rate), results in zip(rates.items(), (strong, weak), strict=True):
        eta = 4.0 * suite.RATES[beta] / (beta * config.answers)
        worst, apart = results["EGPO"]["worst"], results["closed form"]["apart"]
        bound = float(np.log1p(-eta * beta))
        claims += [
            rate_claim(
                f"beta {beta}, EGPO: slope of log KL per update",
                rate,
                bound,
                source="linear rate of EGPO",
            ),
            Claim(f"beta {beta}, EGPO: KL over (1 - eta beta) KL before", worst, "<=", 1.0),
            Claim(f"beta {beta}, EGPO: gap, SGD less mirror prox", apart, "<=", 1e-9),
        ]
    return claims


def noise_claims(config: Config, noise: dict) -> list[Claim]:
    """Floors fall as 1 / m, alike for EGPO and OMD."""
    by_samples = [slope for floors in noise.values() for slope in slopes(floors, config.samples)]
    ratio = noise["EGPO"].mean(-1) / noise["OMD"].mean(-1)
    return [
        Claim("noise: steepest slope of the floor in m", min(by_samples), ">=", -1.3),
        Claim("noise: flattest slope of the floor in m", max(by_samples), "<=", -0.7),
        Claim("noise: floor of EGPO over OMD's, least", float(ratio.min()), ">=", 0.5),
        Claim("noise: floor of EGPO over OMD's, most", float(ratio.max()), "<=", 2.0),
    ]


def guard_claims(beta: float, ends: dict) -> list[Claim]:
    """The largest step that converges and the smallest that does not, over all starts."""
    good, bad = {0.01: (3.0, 4.0), 0.1: (4.0, 6.0)}[beta]
    gaps = dict(zip(suite.GUARD_ETAS[beta], ends["EGPO"], strict=True))
    return [
        Claim(f"cycle, beta {beta}, eta {good:g}: largest gap", gaps[good].max(), "<=", 1e-6),
        Claim(f"cycle, beta {beta}, eta {bad:g}: smallest gap", gaps[bad].min(), ">=", 0.1),
    ]


def row(name: str, config: Config, *results: dict) -> tuple:
    """Of the table: for each beta, games of ten, updates and the last gap."""
    cells = [name]
    for result in results:
        middle = int(np.median(result["reached"]))
        cells.append(f"{per_draw(config, result).mean():.1f}")
        cells.append(str(middle) if middle < suite.NEVER else None)
        cells.append(f"{np.median(result['end']):.1e}")
    return tuple(cells)
