"""The table, the figures and the page of shop_nash."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.shop_nash import PAPER
from experiments.shop_nash.config import Config
from experiments.shop_nash.evaluate import Facts, Method
from experiments.shop_nash.world import exploitability, regularised_shares
from rlhf_jax.envs.shop.voices import VOICE_NAMES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import mean_text
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

LEAD = (
    "Three judges agree on what is good and differ in the voice they like, so that of three "
    "equally good answers, each in another voice, each loses to another by 2 : 1. No score can "
    "say that. Every method starts from one SFT policy and gets the same number of bits, each the "
    "verdict of one judge on one pair of answers. A voice is the opening of an answer, so its "
    "probability is read from the logits, and exploitability in the game of voices is exact."
)
DRAWN = ("bradley_terry", "spo_low", "nash_mp", "nash_md")  # in the figures, with all seeds
ALSO = ("spo", "egpo", "inpo", "td_mnpo")


def write_report(
    job: Run, config: Config, methods: Mapping[str, Method], facts: Facts, claims: Sequence[Claim]
) -> Outcome:
    """Writes plots/, data/curves.npz and report.html; returns what the screen shows."""
    save_stages(
        job.out,
        {"curves": {name: {"bits": one.at, "shares": one.shares} for name, one in methods.items()}},
    )
    table = methods_table(config, methods, facts)
    exact = regularised_shares(facts.sft, facts.prefs, beta=config.game.beta)
    accuracy = {name: float(np.mean(x)) for name, x in facts.accuracies.items()}
    write_page(
        job.out,
        "Nash methods before judges who go round in circles",
        paper=PAPER,
        lead=LEAD,
        claims=claims,
        table=table,
        text="Right about a judge's label of a pair in two voices: who knows the population "
        f"{accuracy['bayes']:.3f}, the best score {accuracy['best_score']:.3f}, the Bradley-Terry "
        f"model of all bits {accuracy['bradley_terry']:.3f}, the pairwise model of the same bits "
        f"{accuracy['pairwise']:.3f}.",
        figures={
            "exploitability": exploitability_figure(methods, facts, exact),
            "shares": shares_figure(methods, facts, exact),
        },
    )
    numbers = {
        "accuracy": accuracy,
        "sft": facts.sft.mean(0),
        "regularised_nash": exact.mean(0),
        "regularised_nash_exploitability": float(exploitability(exact, facts.prefs).mean()),
        "shares": {name: one.shares[:, -1].mean(1) for name, one in methods.items()},
        "seconds": facts.seconds,
    }
    return Outcome(claims, numbers=numbers, table=table)


def methods_table(config: Config, methods: Mapping[str, Method], facts: Facts) -> Table:
    """Method, runs, bits, exploitability of last and average policy, exploiter, KL, gold."""
    prefs = facts.prefs

    def answers(name: str) -> tuple[str, str]:
        found = facts.measured[name]
        return f"{found['kl'].mean():.2f}", f"{found['gold'].mean():.3f}"

    def exploiter(name: str, which: str) -> str:
        gaps = facts.exploited.get((name, which))
        return "" if gaps is None else mean_text(gaps)

    def regular(beta: float) -> str:
        exact = regularised_shares(facts.sft, prefs, beta=beta)
        return f"{exploitability(exact, prefs).mean():.3f}"

    sft = exploitability(facts.sft, prefs)
    rows = [("SFT", "", 0, f"{sft.mean():.3f}", "", "", "", "", *answers("sft"))]
    for name, one in methods.items():
        last, average = one.last_gaps(prefs)[:, -1], one.average_gaps(prefs)[:, -1]
        target = regular(one.beta) if name not in ("bradley_terry", "ppo") else ""
        rows.append(
            (
                one.label,
                len(last),
                one.bits,
                over_runs(last),
                over_runs(average),
                target,
                exploiter(name, "last"),
                exploiter(name, "average"),
                *answers(name),
            )
        )
    headers = (
        *("method", "runs", "bits", "exploitability, last", "average", "regularised Nash"),
        *("exploiter, last", "exploiter, average", "KL", "gold"),
    )
    note = (
        "Exploitability is exact in the game of voices, of one voice 0.32: mean over runs (lowest "
        "to highest). Exploiter: trained against the policy of the first run, from at least "
        f"{config.evaluation.duels * config.game.prompts} answers, [95%] over prompts. KL to SFT "
        "in nats and gold on held-out prompts, first run."
    )
    return Table("Methods at equal bits", headers, rows, note=note)


def over_runs(gaps: np.ndarray) -> str:
    """mean (lowest to highest) over runs, from [S, N]."""
    means = gaps.mean(-1)
    if len(means) == 1:
        return f"{means[0]:.3f}"
    return f"{means.mean():.3f} ({means.min():.3f} to {means.max():.3f})"


def exploitability_figure(methods: Mapping[str, Method], facts: Facts, exact: np.ndarray) -> Shown:
    """Last and average policy over bits, from SFT on."""
    prefs = facts.prefs
    sft = exploitability(facts.sft, prefs).mean()
    target = float(exploitability(exact, prefs).mean())
    levels = {"one voice": float(np.max(prefs[:3, :3]) * 2 - 1), "regularised Nash": target}

    def curve(one: Method, gaps: np.ndarray) -> Series:
        means = gaps.mean(-1)
        start = np.full((len(means), 1), sft)
        return band(np.concatenate([[0], one.at]), np.concatenate([start, means], axis=1))

    last = {name: curve(one, one.last_gaps(prefs)) for name, one in methods.items()}
    average = {name: curve(methods[name], methods[name].average_gaps(prefs)) for name in DRAWN}
    items = []
    for title, names, curves in (
        ("last policy", DRAWN, last),
        ("last policy, one run", ALSO, last),
        ("average of policies", DRAWN, average),
    ):
        series = {methods[name].label: curves[name] for name in names}
        items.append(Panel(title, "bits", "exploitability", series, levels=levels))
    return show_panels(
        items,
        "Exploitability",
        "Exact exploitability in the game of voices, mean over the prompts of the game, against "
        "the bits that a method has asked for.",
        "exploitability of last and average policies against bits for every method",
        columns=3,
        share_y=True,
    )


def shares_figure(methods: Mapping[str, Method], facts: Facts, exact: np.ndarray) -> Shown:
    """Shares of the three voices over bits, first run."""
    start, items = facts.sft.mean(0), []
    for name in (*DRAWN, *ALSO):
        one = methods[name]
        x = np.concatenate([[0], one.at])
        shares = np.concatenate([[start], one.shares[0].mean(1)])
        series = {voice: Series(x, shares[:, k]) for k, voice in enumerate(VOICE_NAMES)}
        items.append(Panel(one.label, "bits", "share", series))
    return show_panels(
        items,
        "Voices in training",
        "Probability of each voice, mean over the prompts of the game, first run. The exact "
        "regularised Nash policy has "
        + ", ".join(f"{voice} {exact.mean(0)[k]:.2f}" for k, voice in enumerate(VOICE_NAMES))
        + ".",
        "shares of the three voices against bits for every method",
        columns=3,
        share_y=True,
    )
