"""The table, the figures and the page of shop_methods."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.shop_methods import PAPER
from experiments.shop_methods.claims import all_claims
from experiments.shop_methods.config import OFFLINE, ONLINE, Config
from experiments.shop_methods.findings import Findings, frontiers, rank_stability, summary_numbers
from experiments.shop_methods.measure import Numbers
from rlhf_jax.ops.statistics import best_of_n_kl
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

LEAD = (
    "Every policy optimiser from the same policy: offline methods on as many labels, online ones "
    "with as many answers and as many calls of a reward model of the same labels."
)
SHORT = 6  # letters of an axis in the table
LEAGUES = {"offline": OFFLINE, "online": ONLINE}
KL, POINTS = "root of the KL to SFT (nats per answer)", 64


def write_report(job: Run, config: Config, found: Findings) -> Outcome:
    """Writes plots/, data/*.npz and report.html; returns what the screen shows."""
    # What there was: a task with few prompts or many ties has fewer labels than were asked for.
    size = f"{min(one['pairs'] for one in found.quality):,.0f} labels"
    claims, table = all_claims(found, size), methods_table(found, config)
    points = {name: {"kl": found.kls(name), "gold": found.golds(name)} for name in found.numbers}
    save_stages(job.out, {"frontier": points})
    drawn = any(found.several(league) for league in LEAGUES.values())
    write_page(
        job.out,
        "Policy optimisers at one budget",
        paper=PAPER,
        lead=LEAD,
        claims=claims,
        table=table,
        tables=[sweep_table(found)] if any(found.sweep.values()) else [],
        text=text_of(found),
        figures={"frontier": frontier_figure(found)} if drawn else {},
    )
    return Outcome(claims, numbers=summary_numbers(found), table=table)


def methods_table(found: Findings, config: Config) -> Table:
    """A row for each method; means over its seeds."""
    start = found.start[0]
    axes = list(start.axes)
    rows = [row("SFT", "", found.start, start)]
    for name, each in found.numbers.items():
        rows.append(row(name, league_of(name), each, start))
    if found.base:
        rows.append(row("base", "", found.base, start))
    rows.append(best_row(found, config.evaluation.best_of, axes))
    headers = (
        *("method", "league", "seeds", "gold", *(axis[:SHORT] for axis in axes), "win", "KL"),
        *("entropy", "tokens", "distinct", "RM", "forgets", "s", "learned"),
    )
    note = (
        "Means over seeds, two answers to each held-out prompt. gold: the objective, then its "
        "parts; win: against SFT, ties one half; KL to SFT (direct_rl: to base) and entropy in "
        "nats per answer (best-of-n: its upper bound); tokens of an answer; distinct: two answers "
        "to a prompt differ; RM: reward that online methods see, in deviations of held-out "
        "answers; forgets: loss on the base corpus less that of SFT, nats per token; s: seconds of "
        "one training; learned: thousands of tokens learned from, every pass counted."
    )
    return Table("Policy optimisers at one budget", headers, rows, note=note)


def league_of(name: str) -> str:
    """The league of a method, or what it starts from."""
    leagues = [title for title, names in LEAGUES.items() if name in names]
    return leagues[0] if leagues else "online, from base"


def row(name: str, league: str, each: Sequence[Numbers], start: Numbers) -> tuple[str, ...]:
    """The cells of a method. start: SFT."""

    def mean(values: Sequence[Any]) -> float:
        return float(np.mean([np.nanmean(x) for x in values]))

    parts = [mean([one.axes[axis] for one in each]) for axis in start.axes]
    return (
        *(name, league, str(len(each)), f"{mean([one.gold for one in each]):.3f}"),
        *(f"{part:.2f}" for part in parts),
        f"{mean([one.win_rate for one in each]):.3f}",
        f"{mean([one.kl for one in each]):.2f}",
        f"{mean([one.entropy for one in each]):.1f}",
        f"{mean([one.length for one in each]):.1f}",
        f"{mean([one.distinct for one in each]):.2f}",
        f"{mean([one.score for one in each]):.2f}",
        forgets(each, start),
        f"{mean([one.seconds for one in each]):.0f}",
        f"{mean([one.tokens for one in each]) / 1000:.0f}",
    )


def forgets(each: Sequence[Numbers], start: Numbers) -> str:
    """Loss on the base corpus above that of SFT; nothing without a corpus."""
    mean = float(np.mean([one.forgetting for one in each])) - start.forgetting
    return "" if np.isnan(mean) else f"{mean:+.3f}"


def best_row(found: Findings, n: int, axes: Sequence[str]) -> tuple[str, ...]:
    """Best-of-n of SFT, which trains nothing."""
    each = found.best_of

    def mean(name: str) -> float:
        return float(np.mean([np.nanmean(one["named"][name]) for one in each]))

    lengths, scores = (np.mean([np.mean(one[x]) for one in each]) for x in ("lengths", "scores"))
    return (
        *(f"best of {n}", "inference", str(len(each)), f"{mean('objective'):.3f}"),
        *(f"{mean(axis):.2f}" for axis in axes),
        f"{np.mean([np.nanmean(one['wins']) for one in each]):.3f}",
        f"{float(best_of_n_kl(jnp.asarray(n))):.2f}",
        *("", f"{lengths:.1f}", "", f"{scores:.2f}", "", "", "0"),
    )


def sweep_table(found: Findings) -> Table:
    """Gold on validation prompts at each of a method's own rates; the chosen rate."""
    rows = [
        (name, *(f"{rate:g}: {each[rate]:.3f}" for rate in sorted(each)), f"{found.rates[name]:g}")
        for name, each in found.sweep.items()
        if each
    ]
    return Table(
        "The sweep of rates: gold on validation prompts, seed 0",
        ("method", "lowest", "middle", "highest", "chosen"),
        rows,
    )


def text_of(found: Findings) -> str:
    """What the tables have no column for."""
    accuracy = {name: np.mean([one[name] for one in found.quality]) for name in found.quality[0]}
    head = f", scalar head {accuracy['head']:.3f}" if "head" in accuracy else ""
    parts = [f"Accuracy on held-out pairs: implied reward {accuracy['implied']:.3f}{head}."]
    if taus := rank_stability(found):
        shown = ", ".join(f"{tau:.2f}" for tau in taus)
        parts.append(f"Kendall's tau between the orders of two seeds by gold: {shown}.")
    for name, changes in found.controls.items():
        for change, share in changes.items():
            parts.append(f"{name}, reward with another {change}: moves by {share:.2g} of the way.")
    if found.filters:
        shown = ", ".join(f"{name} {np.mean(x):.3f}" for name, x in found.filters.items())
        parts.append(f"Gold of PPO on a reward with a noisy middle, by filter: {shown}.")
    return " ".join(parts)


def frontier_figure(found: Findings) -> Shown:
    """Gold against KL: the frontier of each league, and its methods."""
    shown = {title: found.several(league) for title, league in LEAGUES.items()}
    most = max(float(found.kls(name).max()) for names in shown.values() for name in names)
    roots = np.linspace(0.0, np.sqrt(max(most, 0.01)), POINTS)
    curves = {
        title: band(roots, frontiers(found, LEAGUES[title], roots**2), centre="mean")
        for title, names in shown.items()
        if names
    }
    items = [Panel("best gold within a KL", KL, "gold", curves)]
    for title, names in shown.items():
        if names:
            points = {name: seeds_of(found, name) for name in names}
            items.append(Panel(f"{title}, a point for each seed", KL, "gold", points))
    return show_panels(
        items,
        "Gold against KL",
        "Held-out gold against the KL to SFT, of the methods with all seeds; SFT is at KL 0.",
        "curves and points of gold against KL for both leagues",
        columns=3,
        share_y=True,
    )


def seeds_of(found: Findings, name: str) -> Series:
    """The seeds of a method, joined by KL."""
    order = np.argsort(found.kls(name))
    roots = np.sqrt(np.maximum(found.kls(name), 0.0))
    return Series(roots[order], found.golds(name)[order])
