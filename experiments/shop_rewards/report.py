"""The table, the figures and the page of shop_rewards."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.shop_rewards import PAPER
from experiments.shop_rewards.claims import all_claims
from experiments.shop_rewards.config import Data
from experiments.shop_rewards.curve import NAMED, SHARES, TEXT, UNTRAINED, Curve, crossing
from experiments.shop_rewards.findings import SINGLE, UNNORMALISED, WRONG, Findings
from experiments.shop_rewards.kinds import KINDS
from experiments.shop_rewards.measure import group_means, scores_by_length, sizes
from experiments.shop_rewards.policies import Path, fall
from experiments.shop_rewards.sets import Sets
from experiments.shop_rewards.world import FEATURES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

LEAD = (
    "Every kind of reward model learns from the same pairs of answers of the shipped SFT policy, "
    "in as many steps: as they were labelled, with wrong labels among them, and with marks that go "
    "with the label and mean nothing. A gold scorer that none of them sees is the judge."
)
ENSEMBLES = ("mean", "WCO", "UWO")
LENGTHS = (SINGLE, "corrections", UNNORMALISED, "spans")
REST = "given more than pairs"
TITLES = {
    "one score, several heads": ("scalar", "another scalar", "repaired labels", *ENSEMBLES),
    "policies, judges": ("implicit", "corrections", "pairwise", "judge"),
    REST: (),
}


def write_report(job: Run, found: Findings, sets: Sets, data: Data) -> Outcome:
    """Writes plots/, data/*.npz and report.html; returns what the screen shows."""
    claims, table = all_claims(found, data), kinds_table(found)
    curves = {
        reading: {"gold": found.each(form, reading, "best_of")}
        for form, reading in found.numbers
        if form == "flipped"
    }
    save_stages(job.out, {"best_of": {"n": sizes(sets.gold), **curves}})
    figures = figures_of(found, sets)
    write_page(
        job.out,
        "Kinds of reward model on the same pairs",
        paper=PAPER,
        lead=LEAD,
        claims=claims,
        table=table,
        text=text_of(found),
        figures=figures,
    )
    return Outcome(claims, numbers=numbers_of_run(found), table=table)


def figures_of(found: Findings, sets: Sets) -> dict[str, Shown]:
    """Those of what was run."""
    figures = {}
    if any(form == "flipped" for form, _ in found.numbers):
        figures["best_of_n"] = best_of_figure(found, sizes(sets.gold))
    if any(("flipped", reading) in found.numbers for reading in LENGTHS):
        figures["length"] = length_figure(found, sets)
    if found.curves:
        figures["learning_curve"] = curve_figure(found)
    if found.policies:
        figures["policies"] = policies_figure(found.policies)
    return figures


def kinds_table(found: Findings) -> Table:
    """A row for each reading; means over seeds."""

    def cell(form: str, reading: str, name: str, place: int | None = None) -> str:
        if (form, reading) not in found.numbers:
            return ""
        values = found.each(form, reading, name)
        mean = np.mean(values if place is None else values[:, place])
        return "" if np.isnan(mean) else f"{mean:.3f}"

    rows = []
    for reading in dict.fromkeys(reading for _, reading in found.numbers):
        falls = [fall(path.gold) for path in found.policies.get(reading, ())]
        rows.append(
            (
                reading,
                cell("clean", reading, "accuracy"),
                cell("flipped", reading, "accuracy"),
                cell("spurious", reading, "accuracy"),
                cell("spurious", reading, "shifted"),
                *(cell("spurious", reading, "by_mark", i) for i in range(len(FEATURES))),
                cell("flipped", reading, "calibration"),
                cell("flipped", reading, "best_of", -1),
                cell("flipped", reading, "mismatch"),
                cell("flipped", reading, "length"),
                f"{np.mean(falls):.3f}" if falls else "",
                f"{np.mean(found.seconds[reading]):.0f}",
            )
        )
    headers = (
        *("reward", "clean", "flipped", "spurious", "shifted"),
        *(f"shifted {mark}" for mark in FEATURES),
        *("ECE", "best of n", "mismatch", "length", "fall", "s"),
    )
    note = (
        "Accuracy on held-out pairs with clean labels after clean, flipped and spurious pairs, and "
        "after spurious ones on shifted pairs, all and those of either mark. After flipped pairs: "
        "calibration error; gold of the best of all answers of the pool; how much less often two "
        "answers are in gold's order among those of best-of-16; rank correlation with length less "
        "that of gold; fall of gold from its peak under GRPO. Seconds of the training of one seed "
        "and form, voters and members included. Means over seeds; clean and spurious pairs are of "
        f"the first seed alone for {', '.join(name for name, kind in KINDS.items() if kind.once)}."
    )
    return Table("Kinds of reward model", headers, rows, note=note)


def text_of(found: Findings) -> str:
    """What the table has no column for."""
    parts = [
        f"Correlation of two members' errors, {name}: {np.mean(values):.3f}."
        for name, values in found.errors.items()
        if name != "halves"
    ]
    for model in ("users", "Bradley-Terry") if found.users else ():
        each = {
            group: np.mean([one[model][group] for one in found.users])
            for group in ("majority", "minority")
        }
        parts.append(
            f"Two tastes, {model}: accuracy {each['majority']:.3f} for the majority and "
            f"{each['minority']:.3f} for the minority."
        )
    for curve in found.curves:
        level = curve.accuracies[TEXT][-1]
        parts.append(
            f"Pairs from which named features are as good as their untrained mean: "
            f"{pairs_text(curve, NAMED, curve.untrained)}; as the scalar head on all: "
            f"{pairs_text(curve, NAMED, level)}. From which the scalar head is as good as the "
            f"features on all: {pairs_text(curve, TEXT, curve.accuracies[NAMED][-1])}."
        )
    for arm in found.density[0] if found.density else ():
        mean = np.mean([arms[arm].mean() for arms in found.density])
        parts.append(f"PPO on spans, paid {arm}: mean return over training {mean:.3f}.")
    return " ".join(parts)


def pairs_text(curve: Curve, model: str, level: float) -> str:
    """From how many pairs a model is at this accuracy."""
    sizes, values = curve.sizes[model], curve.accuracies[model]
    found = crossing(sizes, values, level)
    return f"more than {sizes[-1]}" if found is None else f"{found:.0f}"


def curve_figure(found: Findings) -> Shown:
    """Accuracy against the number of pairs."""
    curves = found.curves
    series = {
        name: band(
            curves[0].sizes[name],
            np.array([curve.accuracies[name] for curve in curves]),
            centre="mean",
        )
        for name in SHARES
    }
    levels = {
        UNTRAINED: float(np.mean([curve.untrained for curve in curves])),
        "features that say nothing, all pairs": float(
            found.each("clean", WRONG, "accuracy").mean()
        ),
    }
    item = Panel("Clean pairs", "pairs", "held-out accuracy", series, levels=levels, log_x=True)
    return show_panels(
        [item],
        "Pairs that it takes",
        "Held-out accuracy from so many clean pairs: a head that reads the text, and named "
        "features.",
        "curves of accuracy against the number of pairs",
    )


def length_figure(found: Findings, sets: Sets) -> Shown:
    """Scores of short and long answers to a prompt."""
    words = group_means(sets.lengths, sets.lengths)
    series = {
        reading: band(words, found.each("flipped", reading, "by_length"), centre="mean")
        for reading in LENGTHS
        if ("flipped", reading) in found.numbers
    }
    gold = scores_by_length(sets.gold, sets.lengths)
    series["gold"] = band(words, gold[None], centre="mean")
    item = Panel("Length", "words", "score, in deviations of a prompt", series)
    return show_panels(
        [item],
        "Length",
        "Mean score of the shortest answers to a prompt of the pool, the next and so on, after "
        "flipped pairs; gold is the same for all.",
        "curves of scores against the words of an answer",
    )


def best_of_figure(found: Findings, ns: np.ndarray) -> Shown:
    """Gold against n, single models and ensembles."""
    titles: dict[str, dict[str, Series]] = {title: {} for title in TITLES}
    for form, reading in found.numbers:
        if form == "flipped":
            first = reading.split(",")[0]
            title = next((title for title, names in TITLES.items() if first in names), REST)
            curve = band(ns, found.each(form, reading, "best_of"), centre="mean")
            titles[title][reading] = curve
    items = [
        Panel(title, "n", "gold of the best of n", series, log_x=True)
        for title, series in titles.items()
        if series
    ]
    return show_panels(
        items,
        "Best of n",
        "Gold of the best of n samples of SFT by each reward, after flipped pairs.",
        "curves of gold against n for each reward",
        columns=3,
    )


def policies_figure(paths: Mapping[str, Sequence[Path]]) -> Shown:
    """Gold against KL along GRPO."""
    series = {}
    for reading, runs in paths.items():
        kl = np.mean([path.kl for path in runs], axis=0)
        gold = np.array([path.gold.mean(-1) for path in runs])
        series[reading] = band(np.sqrt(np.maximum(kl, 0.0)), gold, centre="mean")
    item = Panel("GRPO", "root of the KL to SFT (nats per answer)", "gold", series)
    return show_panels(
        [item],
        "GRPO",
        "Gold of held-out prompts against KL along GRPO on each reward, after flipped pairs.",
        "curves of gold against KL for each reward",
    )


def numbers_of_run(found: Findings) -> dict[str, Any]:
    """What summary.json keeps."""
    return {
        "numbers": {
            f"{form}, {reading}": [
                {name: np.asarray(x).tolist() for name, x in one._asdict().items()} for one in each
            ]
            for (form, reading), each in found.numbers.items()
        },
        "errors": {name: list(map(float, each)) for name, each in found.errors.items()},
        "policies": {
            reading: [{"kl": x.kl.tolist(), "gold": x.gold.mean(-1).tolist()} for x in runs]
            for reading, runs in found.policies.items()
        },
        "users": list(found.users),
        "curves": [
            {
                "pairs": {name: x.tolist() for name, x in curve.sizes.items()},
                "accuracy": {name: x.tolist() for name, x in curve.accuracies.items()},
                "untrained": curve.untrained,
            }
            for curve in found.curves
        ],
        "density": [{arm: x.tolist() for arm, x in one.items()} for one in found.density],
        "seconds": {name: float(np.mean(each)) for name, each in found.seconds.items()},
    }
