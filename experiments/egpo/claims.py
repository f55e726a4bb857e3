"""What egpo claims of its runs, and the baselines that must fail.

An update of EGPO calls the oracle twice, one of every other method once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.egpo import suite
from experiments.egpo.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import (
    bootstrap_claim,
    bootstrap_interval,
    mean_claim,
    mean_interval,
    near_end,
)
from rlhf_jax.reports.rates import Rate, fit_rate, rate_claim

Arrays = Mapping[str, np.ndarray]
Suite = Mapping[str, Arrays]
FIGURE = "the paper's suite of ten games"
EARLIER = {"kind": "regression", "source": "the range of ten games that were drawn once"}


def share(config: Config, result: Arrays, before: float = np.inf) -> np.ndarray:
    """[draws] share of a draw's games that came below 1e-6 before this update."""
    reached = by_draw(config, result["reached"])
    return ((reached < suite.NEVER) & (reached < before)).mean(-1)


def by_draw(config: Config, values: np.ndarray) -> np.ndarray:
    """[draws, games of a draw]."""
    return np.asarray(values).reshape(config.num_seeds, config.games)


def kl_rate(results: Suite, method: str = "EGPO") -> Rate:
    """Of KL over updates, by game."""
    times, kl = results[method]["times"], results[method]["kl"]
    return fit_rate(times[1:], kl[1:].T, law="linear", floor=1e-12)


def slopes(floors: np.ndarray, x: tuple) -> np.ndarray:
    """[lines, games] log-log slopes in x of floors [lines, x, games]."""
    return np.stack([fit_rate(x, each.T, law="power").slopes for each in floors])


def share_claims(config: Config, strong: Suite, weak: Suite) -> list[Claim]:
    """Who gets below 1e-6."""
    calls = 2 * config.late
    short, long = (
        f"share of games with a gap below 1e-6 in {count} updates" for count in config.updates
    )
    least = share(config, weak["EGPO"], config.late).min()
    none = (
        (0.01, "Online IPO 2", weak, long),
        (0.01, "Nash-MD-PG", weak, long),
        (0.1, "Nash-MD", strong, short),
    )
    return [
        Claim(
            f"beta 0.01, EGPO: share of games with a gap below 1e-6 in {config.late} updates "
            f"({calls} oracle calls), worst draw",
            least,
            ">=",
            1.0,
            kind="paper",
            source=f"{FIGURE}: all",
            baseline=near_end(
                "OMD, as many calls, mean over draws",
                mean_interval(share(config, weak["OMD"], calls)),
                ">=",
            ),
        ),
        *(
            Claim(
                f"beta {beta}, {name}: {games}, best draw",
                share(config, results[name]).max(),
                "==",
                0.0,
                kind="paper",
                source=f"{FIGURE}: none",
                baseline=("EGPO", share(config, results["EGPO"]).max()),
            )
            for beta, name, results, games in none
        ),
        mean_claim(
            f"beta 0.01, OMD: {long}, at most", share(config, weak["OMD"]), "<=", 0.6, **EARLIER
        ),
        mean_claim(
            f"beta 0.1, Online IPO 2: {short}, at least",
            share(config, strong["Online IPO 2"]),
            ">=",
            0.6,
            **EARLIER,
        ),
    ]


def median_claims(config: Config, strong: Suite, weak: Suite) -> list[Claim]:
    """Medians over games: updates and oracle calls to a gap of 1e-6, and the floor of Nash-MD."""
    windows = (("EGPO", "two oracle calls", 130, 160), ("OMD", "one oracle call", 140, 180))
    claims = [
        claim
        for name, calls, low, high in windows
        for reached in [by_draw(config, strong[name]["reached"])]
        for claim in Claim.within(
            f"beta 0.1, {name}: median updates ({calls} each) to a gap of 1e-6",
            float(np.median(reached)),
            low,
            high,
            interval=bootstrap_interval(np.median, reached),
            **EARLIER,
        )
    ]
    claims += call_claims(config, strong, weak)
    half, whole, egpo = (
        by_draw(config, strong[name]["end"])
        for name in ("Nash-MD, half mixture", "Nash-MD", "EGPO")
    )
    return claims + [
        bootstrap_claim(
            f"beta 0.1, Nash-MD, half mixture: median last gap, {side}",
            np.median,
            [half],
            op,
            threshold,
            kind="paper",
            source="published floor of Nash-MD, 2.5e-5, within a factor of two",
            baseline=(name, np.median(rival)),
        )
        for side, op, threshold, name, rival in (
            ("at least", ">=", 1.25e-5, "EGPO", egpo),
            ("at most", "<=", 5e-5, "Nash-MD", whole),
        )
    ]


def call_claims(config: Config, strong: Suite, weak: Suite) -> list[Claim]:
    """EGPO asks the oracle twice in an update, OMD once: who needs fewer calls."""
    reached = {
        (beta, name): by_draw(config, results[name]["reached"])
        for beta, results in ((0.1, strong), (0.01, weak))
        for name in ("EGPO", "OMD")
    }
    return [
        bootstrap_claim(
            f"beta {beta}, EGPO: median oracle calls to a gap of 1e-6 over those of OMD",
            lambda ours, theirs: 2.0 * np.median(ours) / np.median(theirs),
            [reached[beta, "EGPO"], reached[beta, "OMD"]],
            op,
            1.0,
            kind="ours",
            source=source,
            baseline=(name, np.median(rival) / np.median(reached[beta, "OMD"])),
        )
        for beta, op, source, name, rival in (
            (
                *(0.1, ">", "one step at a time converges too: the second call only costs"),
                *("the same count in updates", reached[0.1, "EGPO"]),
            ),
            (
                *(0.01, "<", "one step at a time hardly converges: the second call pays"),
                *("Nash-MD in the place of EGPO", weak["Nash-MD"]["reached"]),
            ),
        )
    ]


def tuned_claim(config: Config, weak: Suite, tuned: Arrays) -> Claim:
    """Calls of EGPO at the authors' rate against OMD at its best, chosen in every resample."""
    rivals = np.stack([by_draw(config, reached) for reached in tuned["reached"]], axis=-1)

    def ratio(ours: np.ndarray, theirs: np.ndarray) -> float:
        return 2.0 * np.median(ours) / np.median(theirs, axis=(0, 1)).min()

    half = by_draw(config, weak["Nash-MD"]["reached"])
    return bootstrap_claim(
        f"beta 0.01, EGPO: median oracle calls to a gap of 1e-6 over those of OMD at the best of "
        f"{len(suite.TUNED)} rates",
        ratio,
        [by_draw(config, weak["EGPO"]["reached"]), rivals],
        "<",
        1.0,
        kind="ours",
        source="the second call pays against a tuned rival too",
        baseline=("Nash-MD in the place of EGPO, a call each", 0.5 * ratio(half, rivals)),
    )


def linear_claims(config: Config, strong: Suite, weak: Suite) -> list[Claim]:
    """The rate of the theorem, on average and at every update."""
    claims = []
    for beta, results in ((0.1, strong), (0.01, weak)):
        eta = 4.0 * suite.RATES[beta] / (beta * config.answers)
        claims += [
            rate_claim(
                f"beta {beta}, EGPO: slope of log KL per update (two oracle calls)",
                kl_rate(results),
                float(np.log1p(-eta * beta)),
                source="linear rate of EGPO",
                baseline=("Nash-MD", kl_rate(results, "Nash-MD").slope),
            ),
            Claim(
                f"beta {beta}, EGPO: largest KL over (1 - eta beta) times the last, all games",
                results["EGPO"]["worst"],
                "<=",
                1.0,
                kind="theorem",
                source="linear rate of EGPO",
                baseline=("OMD, same step", float(results["OMD"]["worst"])),
            ),
        ]
    return claims


def bias_claim(bias: Arrays) -> Claim:
    """What the penalty costs in the game without it."""
    ours, start = (
        np.max(bias[name] / bias["bound"][:, None], axis=0) for name in ("exploitability", "start")
    )  # [games]
    return Claim(
        "EGPO, uniform reference: largest exploitability without the penalty over 2 beta log n",
        ours.max(),
        "<=",
        1.0,
        kind="theorem",
        source="bias of the KL penalty",
        baseline=near_end(
            "staying at the reference, mean over games", bootstrap_interval(np.mean, start), "<="
        ),
    )


def noise_claims(config: Config, noise: Arrays) -> list[Claim]:
    """Floors fall as 1 / m, alike for EGPO and OMD; games are the units."""
    lines = np.concatenate([slopes(floors, config.samples) for floors in noise.values()])
    order = lines.mean(-1).argsort()
    ours, theirs = (noise[name].reshape(-1, noise[name].shape[-1]) for name in ("EGPO", "OMD"))
    rank = (ours.mean(-1) / theirs.mean(-1)).argsort()
    about = {"kind": "ours", "source": "the variance of m samples, 1 / m, slope within 0.3"}
    alike = {"kind": "ours", "source": "under noise a second call buys less than a factor of two"}

    def ratio(ours: np.ndarray, theirs: np.ndarray) -> float:
        return ours.mean() / theirs.mean()

    floor = "noise, beta 0.1: floor of EGPO over that of OMD, same step and samples"
    return [
        mean_claim(
            "noise, beta 0.1: steepest slope of a floor in m", lines[order[0]], ">=", -1.3, **about
        ),
        mean_claim(
            "noise, beta 0.1: flattest slope of a floor in m", lines[order[-1]], "<=", -0.7, **about
        ),
        bootstrap_claim(
            f"{floor}, least", ratio, [ours[rank[0]], theirs[rank[0]]], ">=", 0.5, **alike
        ),
        bootstrap_claim(
            f"{floor}, largest", ratio, [ours[rank[-1]], theirs[rank[-1]]], "<=", 2.0, **alike
        ),
    ]


def guard_claims(beta: float, ends: Arrays) -> list[Claim]:
    """The largest step that converges and the smallest that does not, over all starts."""
    good, bad = {0.01: (3.0, 4.0), 0.1: (4.0, 6.0)}[beta]
    step = suite.GUARD_ETAS[beta].index(good)
    ours, theirs = (ends[name][step] for name in ("EGPO", "OMD"))  # [starts]
    least = ends["EGPO"][suite.GUARD_ETAS[beta].index(bad)].min()
    about: dict[str, Any] = {
        "kind": "ours",
        "source": "steps up to twice the theorem's 2 / (1 + 2 beta)",
    }
    return [
        Claim(
            f"rock-paper-scissors, beta {beta}, EGPO at eta {good:g}: largest last gap over starts",
            ours.max(),
            "<=",
            1e-6,
            baseline=near_end(
                "OMD, same step, mean over starts", bootstrap_interval(np.mean, theirs), "<="
            ),
            **about,
        ),
        Claim(
            f"rock-paper-scissors, beta {beta}, EGPO at eta {bad:g}: least last gap over starts",
            least,
            ">=",
            0.1,
            **about,
        ),
    ]
