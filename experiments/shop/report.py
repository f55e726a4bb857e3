"""The table, the plots and the page of the shop job."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.shop import PAPER
from experiments.shop.evaluate import heldout_indices
from experiments.shop.tools import Tools
from rlhf_jax.envs import shop
from rlhf_jax.ops.statistics import best_of_n_curve, best_of_n_kl, calibration_error
from rlhf_jax.reports import html, plots
from rlhf_jax.reports.claims import Claim, Outcome, Table, write_text
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.training import Run, read_metrics

SHOWN_PROMPTS = 6
CURVES = {
    "sft": ("loss", "loss (nats per token)"),
    "reward_model": ("scores/accuracy", "accuracy on the batch"),
    "dpo": ("rewards/margin", "chosen minus rejected log-ratio (nats)"),
    "ipo": ("rewards/margin", "chosen minus rejected log-ratio (nats)"),
    "online_dpo": ("scores/mean", "reward-model score of the samples"),
    "ppo": ("scores/mean", "reward-model score of the samples"),
    "ppo_no_kl": ("scores/mean", "reward-model score of the samples"),
}
PATHS = {
    "DPO": "dpo",
    "IPO": "ipo",
    "online DPO": "online_dpo",
    "PPO": "ppo",
    "PPO, no KL": "ppo_no_kl",
}


class Method(NamedTuple):
    """One row of the table. gold: [N] per prompt; axes: [6] means; win_rate: mean, low, high
    against SFT; kl in nats per answer; score: normalised; length in tokens; texts: [N]."""

    gold: np.ndarray
    axes: np.ndarray
    win_rate: np.ndarray
    kl: float
    score: float
    length: float
    seconds: float
    texts: list[str]


def write_report(
    job: Run,
    tools: Tools,
    methods: Mapping[str, Method],
    claims: Sequence[Claim],
    reward_info: Mapping[str, Any],
    best: Mapping[str, np.ndarray],
) -> Outcome:
    """Writes plots/*.png and report.html; returns what the command line prints and keeps."""
    table = methods_table(methods)
    metrics = read_metrics(job.out)
    verdict = overoptimisation(metrics, methods["SFT"])
    figures = {
        "frontier": frontier(metrics, methods, best),
        "over_optimisation": overoptimisation_figure(metrics, methods["SFT"]),
        "calibration": calibration(reward_info["margins"]),
    }
    figures |= {f"curve_{stage}": curve(metrics, stage) for stage in CURVES}
    images = {
        name: plots.save_figure(figure, job.out / "plots" / f"{name}.png")
        for name, figure in figures.items()
    }
    blocks = page_blocks(tools, methods, claims, reward_info, table, verdict, images)
    lead = (
        "A small transformer learns to be a shop assistant from a mixed corpus, a reward model "
        "learns from pairs of its answers, and five methods use the reward model. A gold scorer "
        "that none of them sees is the judge."
    )
    footer = ", ".join(f"{name} {version}" for name, version in job.versions.items())
    write_text(
        job.out / "report.html", html.page("The shop job", *blocks, lead=lead, footer=footer)
    )
    numbers = {
        "methods": {name: summary(method) for name, method in methods.items()},
        "reward_model": {k: v for k, v in reward_info.items() if k != "margins"},
        "over_optimisation": verdict,
    }
    return Outcome(claims, numbers=numbers, table=table)


def page_blocks(
    tools: Tools,
    methods: Mapping[str, Method],
    claims: Sequence[Claim],
    reward_info: Mapping[str, Any],
    table: Table,
    verdict: Mapping[str, Any],
    images: Mapping[str, Path],
) -> list[html.Html]:
    """The sections of the page, in order."""
    accuracy = (
        f"Held-out accuracy {reward_info['accuracy']:.3f} on the teacher's labels, "
        f"{reward_info['gold_accuracy']:.3f} on the gold order; the teacher itself agrees with "
        f"gold on {reward_info['teacher_accuracy']:.3f}."
    )
    return [
        html.section("Claims", html.claims_list(claims, PAPER)),
        html.section("Every method on held-out prompts", html.table(table)),
        html.section(
            "Gold score against KL",
            html.figure(images["frontier"], alt="gold score against KL for every method"),
        ),
        html.section(
            "Over-optimisation",
            html.paragraph(verdict["text"]),
            html.figure(images["over_optimisation"], alt="gold and proxy score without KL"),
        ),
        html.section(
            "Reward model",
            html.paragraph(accuracy),
            html.figure(images["calibration"], alt="reliability diagram of the reward model"),
        ),
        html.section(
            "Training curves",
            *(html.figure(images[f"curve_{s}"], alt=f"training curve of {s}") for s in CURVES),
        ),
        html.section("Six prompts", *answer_blocks(tools, methods)),
    ]


def methods_table(methods: Mapping[str, Method]) -> Table:
    """method x gold score per axis, win rate, KL, score, length, seconds."""
    rows = [
        (
            name,
            f"{m.gold.mean():.3f}",
            *(f"{value:.2f}" for value in m.axes),
            "" if name == "SFT" else "{:.2f} [{:.2f}, {:.2f}]".format(*m.win_rate),
            f"{m.kl:.1f}",
            f"{m.score:.2f}",
            f"{m.length:.1f}",
            f"{m.seconds:.0f}",
        )
        for name, m in methods.items()
    ]
    headers = ("method", "gold", *shop.AXES, "win vs SFT [95%]", "KL", "RM", "tokens", "s")
    note = (
        "gold and axes in [0, 1]; win rate over held-out prompts, ties one half; KL to SFT in nats "
        "per answer (best-of-n: its upper bound); RM: score in standard deviations of SFT answers"
    )
    return Table("Gold score of every method on held-out prompts", headers, rows, note=note)


def summary(method: Method) -> dict[str, Any]:
    """The numbers of one row as JSON."""
    return {
        "gold": float(method.gold.mean()),
        "axes": dict(zip(shop.AXES, method.axes.tolist(), strict=True)),
        "win_rate": method.win_rate.tolist(),
        "kl": method.kl,
        "score": float(method.score),
        "length": float(method.length),
    }


def series(metrics: Sequence[Mapping[str, Any]], stage: str, x: str, y: str) -> plots.Series:
    """The rows of a stage that have y, against x."""
    rows = [row for row in metrics if row["stage"] == stage and y in row]
    return plots.Series([row[x] for row in rows], [row[y] for row in rows])


def frontier(metrics, methods: Mapping[str, Method], best: Mapping[str, np.ndarray]):
    """Each method's path from SFT, and best-of-n for every n."""
    start = float(methods["SFT"].gold.mean())
    paths = {}
    for name, stage in PATHS.items():
        path = series(metrics, stage, "heldout/kl", "heldout/gold")
        paths[name] = plots.Series([0.0, *path.x], [start, *path.y])
    ns = 2 ** np.arange(int(np.log2(best["all_gold"].shape[1])) + 1)
    curve = best_of_n_curve(
        jnp.asarray(best["all_scores"], jnp.float32),
        jnp.asarray(best["all_gold"], jnp.float32),
        jnp.asarray(ns),
    )
    paths["best of n"] = plots.Series(best_of_n_kl(jnp.asarray(ns)), curve.mean(0))
    return plots.frontier(paths, title="How much gold score for how much KL")


def overoptimisation(metrics, sft: Method) -> dict[str, Any]:
    """Where the gold score of PPO without KL penalty peaked, and what came after."""
    path = series(metrics, "ppo_no_kl", "step", "heldout/gold")
    proxy = series(metrics, "ppo_no_kl", "step", "heldout/score")
    gold, steps = [float(sft.gold.mean()), *path.y], [0, *path.x]
    at = int(np.argmax(gold))
    peak, last = gold[at], gold[-1]
    # A mean over 128 prompts has a standard error of about 0.03: less is not called a fall.
    fell = peak - last > 0.05
    rose = proxy.y[-1] > proxy.y[max(at - 1, 0)]
    text = f"Without a KL penalty the gold score peaks at {peak:.3f} (step {steps[at]})"
    text += f" and then falls to {last:.3f}" if fell else f" and ends at {last:.3f}"
    if not fell:
        text += ": no over-optimisation within this run."
    elif rose:
        text += ", while the reward model's score on the same prompts goes on rising."
    else:
        text += "; the reward model's score ends no higher than it was at the peak."
    return {"peak": peak, "peak_step": steps[at], "last": last, "fell": fell, "text": text}


def overoptimisation_figure(metrics, sft: Method):
    """Gold score and the reward model's, both along PPO without KL penalty."""
    gold = series(metrics, "ppo_no_kl", "step", "heldout/gold")
    proxy = series(metrics, "ppo_no_kl", "step", "scores/mean")
    squashed = 1 / (1 + np.exp(-np.asarray(proxy.y)))
    scores = {
        "gold score (held out)": plots.Series([0, *gold.x], [float(sft.gold.mean()), *gold.y]),
        "reward model (sigmoid of its score)": plots.Series(proxy.x, squashed),
    }
    return panels([Panel("PPO without a KL penalty", "rollouts", "score", scores)])


def calibration(margins: Sequence[float]):
    """Predicted against observed: how often the favourite of the reward model is the chosen one."""
    probs = 1 / (1 + np.exp(-np.asarray(margins)))
    error, bins = calibration_error(
        jnp.asarray(probs, jnp.float32), jnp.ones(len(probs), jnp.float32)
    )
    predicted, observed, share = np.asarray(bins).T
    return plots.reliability(
        predicted,
        np.where(share > 0, observed, np.nan),
        np.round(share * len(probs)),
        title=f"Reward model, calibration error {float(error):.3f}",
        x_label="confidence in the favourite",
        y_label="favourite was chosen",
    )


def curve(metrics, stage: str):
    """One training curve, averaged over windows."""
    name, label = CURVES[stage]
    found = series(metrics, stage, "step", name)
    window = max(1, len(found.x) // 60)
    size = len(found.x) // window * window
    x, y = (np.asarray(v, float)[:size].reshape(-1, window).mean(1) for v in (found.x, found.y))
    return panels([Panel(stage, "steps", label, {stage: plots.Series(x, y)})])


def answer_blocks(tools: Tools, methods: Mapping[str, Method]) -> list[html.Html]:
    """Six held-out prompts, two of each task, with every method's answer and its gold score."""
    indices = heldout_indices(tools, tools.config.evaluation.prompts)
    prompts = [shop.make_prompt(tools.config.seed, int(i)) for i in indices]
    chosen: list[int] = []
    for task in ("recommend", "refuse", "howto"):
        chosen += [i for i, p in enumerate(prompts) if p.task == task][: SHOWN_PROMPTS // 3]
    return [
        html.answer_table(
            f"{prompts[i].kind.replace('_', ' ')}: {prompts[i].task}",
            prompts[i].text,
            [(name, m.texts[i], f"gold {m.gold[i]:.2f}") for name, m in methods.items()],
        )
        for i in chosen
    ]
