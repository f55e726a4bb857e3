"""The tables, the plots and report.html. No text of the data is in any of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.preferences import PAPER
from experiments.preferences.config import Config
from experiments.preferences.data import Source
from experiments.preferences.evaluate import calibration
from rlhf_jax.reports import html, plots
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table, write_text
from rlhf_jax.reports.panels import Panel, band_words, panels
from rlhf_jax.reports.plots import Series

INTERVALS = (
    "In brackets 95% intervals: over folds by Student's t, over pairs by the normal law with the "
    "pairs of one dialogue taken together. The claim uses the lower of the two low ends."
)


def preference_table(measured: Mapping[str, Any], source: Source) -> Table:
    """One row a method: does it tell the chosen answer from the rejected one?"""
    headers = ("method", "accuracy, over folds", "over pairs", "calibration error", "log loss")
    rows = []
    for name, found in measured.items():
        accuracy = found["accuracy"]
        rows.append(
            (
                name,
                _with_interval(accuracy),
                _ends(accuracy["over_pairs"][1:]),
                _with_interval(found.get("calibration_error")),
                _with_interval(found.get("log_loss")),
            )
        )
    note = f"{INTERVALS} {fields(source)}"
    return Table("Held-out pairs, by cross-validation", headers, rows, note=note)


def language_table(perplexity: Mapping[str, Any], answers: Mapping[str, Any]) -> Table:
    """One row a policy: how well it predicts chosen answers, and how far it went."""
    headers = ("policy", "perplexity of chosen answers", "KL to SFT, nats an answer", "tokens")
    kl = _with_interval(answers["kl"])
    rows = [
        ("untrained", _with_interval(perplexity["untrained"], 1), None, None),
        ("SFT", _with_interval(perplexity["sft"], 1), "0", _tokens(answers["sft_length"])),
        ("DPO", _with_interval(perplexity["dpo"], 1), kl, _tokens(answers["dpo_length"])),
    ]
    note = (
        "Perplexity per token of held-out chosen answers; KL(DPO || SFT) by k1 on one sampled "
        "answer a held-out prompt; length of sampled answers. Intervals over folds."
    )
    return Table("The policies", headers, rows, note=note)


def fields(source: Source) -> str:
    """Which fields of the file were read and which were not."""
    read, left_out = (", ".join(names) or "none" for names in source.file.fields)
    return f"Fields read: {read}; left out: {left_out}."


def data_counts(source: Source, folds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What was read, what was left out, and what the lengths of prompts and answers cost."""
    file, used = source.file, len(source.pairs)
    cut = {name: np.concatenate([f["cut"][name] for f in folds]) for name in folds[0]["cut"]}
    return {
        "pairs used": used,
        "pairs beyond max_pairs": len(file.pairs) - used,
        "dialogues": len(np.unique(source.groups)),
        "ties dropped": file.ties_dropped,
        "identical answers dropped": file.identical_dropped,
        "blank answers dropped": file.blank_dropped,
        "prompts removed from answers": file.prompts_removed,
        "pairs whose answers begin with the prompt": file.prompts_repeated,
        "pairs also in the file the other way round": file.contradicted,
        "share of prompts cut": round(float(cut["prompts"].mean()), 4),
        "share of answers cut": round(float(cut["answers"].mean()) / 2, 4),
        "pairs equal after cutting": int(cut["equal"].sum()),
        "pairs with another prompt's text after cutting": int(cut["merged"].sum()),
    }


def verdict(gain: Mapping[str, Any], pairs: int) -> str:
    """Whether the reward model beats the n-grams, as it is."""
    low, high = gain["widest"][1:]
    words = "beats" if low > 0 else "loses to" if high < 0 else "cannot be told from"
    return (
        f"On {pairs} held-out pairs the reward model {words} the n-gram baseline: accuracy "
        f"{gain['mean']:+.3f} {_ends((low, high))}."
    )


def figures(
    measured: Mapping[str, Any], folds: Sequence[Mapping[str, Any]], rows: Sequence[Any]
) -> dict[str, tuple[Figure, str]]:
    """File name -> figure and the sentence under it."""
    margins = {
        name: np.concatenate([f["margins"][name] for f in folds]) for name in ("reward", "ngrams")
    }
    pairs = {"reward": "reward model", "dpo": "DPO"}
    coin = {"a coin": float(np.log(2))}
    sft = Panel("SFT", "update", "nats per token", training_curves(rows, {"sft": "SFT"}))
    both = Panel("Pairs", "update", "nats per pair", training_curves(rows, pairs), levels=coin)
    return {
        "accuracy": (
            accuracy_plot(measured),
            "Dots: mean over folds; lines: the wider of both 95% intervals; ticks: single folds.",
        ),
        "calibration_reward_model": (
            reliability_plot(margins["reward"], "Reward model"),
            "Each pair's favourite is the answer with the higher score; numbers count pairs.",
        ),
        "calibration_ngrams": (
            reliability_plot(margins["ngrams"], "n-gram Bradley-Terry"),
            "The same for the linear reward over n-grams.",
        ),
        "sft_loss": (panels([sft]), f"Loss on the training batches. {band_words([sft])}"),
        "pair_loss": (
            panels([both]),
            "Bradley-Terry loss of the reward model, DPO loss of the policy, training batches. "
            f"{band_words([both])}",
        ),
    }


def accuracy_plot(measured: Mapping[str, Any]) -> Figure:
    """A dot for each method with its wider interval, and the folds as small marks."""
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(5.0, 2.6), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        names = list(measured)[::-1]
        for i, found in enumerate(measured[name] for name in names):
            accuracy = found["accuracy"]
            mean, low, high = accuracy["widest"]
            colour = plots.COLOURS[0] if found.get("log_loss") else "#777777"
            axes.plot(accuracy["folds"], [i - 0.22] * len(accuracy["folds"]), "|", color="#999999")
            axes.hlines(i, low, high, color=colour, linewidth=2)
            axes.plot([mean], [i], "o", color=colour, markersize=7)
        axes.axvline(0.5, color="#777777", linewidth=1, linestyle=(0, (2, 2)))
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="held-out accuracy", ylim=(-0.6, len(names) - 0.4))
        axes.set_title("Which answer did people prefer?", loc="left", fontweight="bold", pad=10)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(visible=True, axis="x", color=plots.PALE, linewidth=0.6)
    return figure


def reliability_plot(margins: np.ndarray, title: str) -> Figure:
    """Confidence in the favourite against how often it was preferred, over all held-out pairs."""
    return plots.pair_reliability(calibration(margins)[1], len(margins), title=title)


def training_curves(
    rows: Sequence[Mapping[str, Any]], parts: Mapping[str, str]
) -> dict[str, Series]:
    """Training losses, mean over the folds with their range, smoothed over 1/20 of the steps.

    Args:
      rows: of metrics.jsonl.
      parts: end of the stages' names -> the curve's name.
    """
    series = {}
    for part, name in parts.items():
        stages: dict[str, list[float]] = {}
        for row in rows:
            if row["stage"].endswith(f"-{part}"):
                stages.setdefault(row["stage"], []).append(row["loss"])
        values = np.array([[np.nan if x is None else x for x in v] for v in stages.values()])
        width = max(values.shape[1] // 20, 1)
        blocks = values[:, : values.shape[1] // width * width].reshape(len(values), -1, width)
        smooth = blocks.mean(-1)
        at = (np.arange(smooth.shape[1]) + 1) * width
        series[name] = band(at, smooth, centre="mean", units="folds")
    return series


def write_report(
    out: Path,
    *,
    config: Config,
    source: Source,
    claims: Sequence[Claim],
    tables: Sequence[Table],
    figures: Mapping[str, tuple[Figure, str]],
    lead: str,
    counts: Mapping[str, float],
) -> Path:
    """Writes plots/*.png and report.html, and returns the latter's path.

    figures: file name -> the figure and the sentence under it. counts: `data_counts`.
    """
    shown = []
    for name, (figure, caption) in figures.items():
        path = plots.save_figure(figure, out / "plots" / f"{name}.png")
        shown.append(html.figure(path, alt=caption, caption=caption))
    page = html.page(
        "Human preferences: reward model and DPO from scratch",
        html.section("Claims", html.claims_list(claims, PAPER)),
        html.section("Results", *(html.table(table) for table in tables)),
        html.section("Plots", *shown),
        html.section(
            "Data",
            html.table(Table("", ("in the file", "count"), list(counts.items()))),
            html.paragraph(fields(source)),
            html.paragraph(
                f"{config.folds} folds; every dialogue lies in one test fold only. Tokenizer, "
                "n-grams and models of a fold saw its training split only."
            ),
            html.note("Sampled answers are in answers.jsonl; they may be offensive."),
        ),
        lead=lead,
        footer=f"Seed {config.seed}, file {source.digest[:12]}. Config and versions: summary.json.",
    )
    path = out / "report.html"
    write_text(path, page)
    return path


def _with_interval(found: Mapping[str, Any] | None, digits: int = 3) -> str | None:
    """`0.612 [0.590, 0.634]`, the interval over folds."""
    if found is None:
        return None
    return f"{found['mean']:.{digits}f} {_ends(found['over_folds'], digits)}"


def _ends(ends: Sequence[float], digits: int = 3) -> str:
    return f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def _tokens(found: Mapping[str, Any]) -> str:
    return f"{found['mean']:.1f}"
