"""The table, the plots and the page of the shop job."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.shop import PAPER
from experiments.shop.evaluate import heldout_indices
from experiments.shop.table import Method, methods_table, summary
from experiments.shop.tools import Tools
from rlhf_jax.envs import shop
from rlhf_jax.ops.statistics import best_of_n_curve, best_of_n_kl, calibration_error
from rlhf_jax.reports import html, plots
from rlhf_jax.reports.claims import Claim, Outcome, Table, write_text
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.training import Run, read_metrics

SHOWN_PROMPTS = 30
CURVES = {
    "scalar_head": ("scores/accuracy", "accuracy on the batch"),
    "dpo": ("rewards/margin", "chosen minus rejected log-ratio (nats)"),
    "ipo": ("rewards/margin", "chosen minus rejected log-ratio (nats)"),
    "online_dpo": ("scores/mean", "reward-model score of the samples"),
    "ppo": ("scores/mean", "reward-model score of the samples"),
    "ppo_no_kl": ("scores/mean", "reward-model score of the samples"),
    "ppo_gold": ("named/gold/gold", "gold score of the samples"),
}
PATHS = {
    "DPO": "dpo",
    "IPO": "ipo",
    "online DPO": "online_dpo",
    "PPO": "ppo",
    "PPO, no KL, DPO's reward": "ppo_no_kl",
    "PPO on gold": "ppo_gold",
}


def write_report(
    job: Run,
    tools: Tools,
    methods: Mapping[str, Method],
    claims: Sequence[Claim],
    models: Mapping[str, Mapping[str, Any]],
    best: Mapping[str, np.ndarray],
) -> Outcome:
    """Writes plots/*.png and report.html; returns what the command line prints and keeps.

    models: what `fit.pair_quality` found of the "reward_model" and of the "scalar_head".
    """
    table = methods_table(methods)
    metrics = read_metrics(job.out)
    verdict = overoptimisation(metrics, methods["SFT"])
    figures = {
        "frontier": frontier(metrics, methods, best),
        "over_optimisation": overoptimisation_figure(metrics, methods["SFT"]),
        "calibration": calibration(models["reward_model"]["margins"]),
    }
    trained = {row["stage"] for row in metrics}
    figures |= {f"curve_{name}": curve(metrics, name) for name in CURVES if name in trained}
    images = {
        name: plots.save_figure(figure, job.out / "plots" / f"{name}.png")
        for name, figure in figures.items()
    }
    blocks = page_blocks(tools, methods, claims, models, table, verdict, images)
    lead = (
        "A small transformer that is a competent shop assistant answers prompts, a reward model "
        "learns from pairs of its answers, and six methods use pairs or reward model. A gold "
        "scorer that none of them sees is the judge."
    )
    if tools.config.bound:
        lead += " PPO on gold does see it: a bound for PPO."
    write_text(job.out / "report.html", html.page("The shop job", *blocks, lead=lead))
    numbers = {
        "methods": {name: summary(method) for name, method in methods.items()},
        **{
            name: {k: v for k, v in each.items() if k != "margins"} for name, each in models.items()
        },
        "over_optimisation": verdict,
    }
    return Outcome(claims, numbers=numbers, table=table)


def page_blocks(
    tools: Tools,
    methods: Mapping[str, Method],
    claims: Sequence[Claim],
    models: Mapping[str, Mapping[str, Any]],
    table: Table,
    verdict: Mapping[str, Any],
    images: Mapping[str, Path],
) -> list[html.Html]:
    """The sections of the page, in order."""
    implied, head = models["reward_model"], models["scalar_head"]
    ref_weight = tools.config.reward.ref_weight
    accuracy = (
        "The reward that DPO's policy implies, with the reference's log-prob weighed by "
        f"{ref_weight:g}, is right on "
        f"{implied['accuracy']:.3f} of the teacher's held-out labels and on "
        f"{implied['gold_accuracy']:.3f} of the gold order; with a weight of 1, as DPO implies it, "
        f"on {models['dpo_reward']['accuracy']:.3f} of the labels; a scalar head, trained on the "
        f"same pairs, on {head['accuracy']:.3f}. "
        f"The teacher itself agrees with gold on {implied['teacher_accuracy']:.3f}."
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
            *(
                html.figure(image, alt=f"training curve of {name.removeprefix('curve_')}")
                for name, image in images.items()
                if name.startswith("curve_")
            ),
        ),
        html.section("The first thirty held-out prompts", *answer_blocks(tools, methods)),
    ]


def series(metrics: Sequence[Mapping[str, Any]], stage: str, x: str, y: str) -> plots.Series:
    """The rows of a stage that have y, against x."""
    rows = [row for row in metrics if row["stage"] == stage and y in row]
    return plots.Series([row[x] for row in rows], [row[y] for row in rows])


def frontier(metrics, methods: Mapping[str, Method], best: Mapping[str, np.ndarray]):
    """Each method's path from SFT, and best-of-n for every n; KL by its root, as in Gao et al."""
    start = float(methods["SFT"].gold.mean())
    paths = {}
    for name, stage in PATHS.items():
        if name not in methods:
            continue
        path = series(metrics, stage, "heldout/kl", "heldout/gold")
        kl = np.maximum([0.0, *path.x], 0.0)  # an estimate may be below 0
        paths[name] = plots.Series(np.sqrt(kl), [start, *path.y])
    ns = 2 ** np.arange(int(np.log2(best["all_gold"].shape[1])) + 1)
    curve = best_of_n_curve(
        jnp.asarray(best["all_scores"], jnp.float32),
        jnp.asarray(best["all_gold"], jnp.float32),
        jnp.asarray(ns),
    )
    kl = np.sqrt(best_of_n_kl(jnp.asarray(ns)))
    paths["best of n"] = plots.Series(kl, curve.mean(0))
    return plots.frontier(
        paths,
        title="How much gold score for how much KL",
        x_label="root of the KL to SFT (nats per answer)",
    )


def overoptimisation(metrics, sft: Method) -> dict[str, Any]:
    """Where the gold score of PPO without KL penalty peaked, and what came after."""
    path = series(metrics, "ppo_no_kl", "step", "heldout/gold")
    proxy = series(metrics, "ppo_no_kl", "step", "heldout/score")
    gold, steps = [float(sft.gold.mean()), *path.y], [0, *path.x]
    at = int(np.argmax(gold))
    peak, last = gold[at], gold[-1]
    rose = proxy.y[-1] > proxy.y[max(at - 1, 0)]
    text = (
        f"Without a KL penalty the gold score is highest, {peak:.3f}, at step {steps[at]}, and "
        f"ends at {last:.3f}; the reward model's score on the same prompts ends "
    )
    text += "higher than it was there." if rose else "no higher than it was there."
    return {"peak": peak, "peak_step": steps[at], "last": last, "proxy_rose": rose, "text": text}


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
    """The first held-out prompts, unpicked, with every answer and its gold score.

    They are among those that best-of-n answers.
    """
    sizes = tools.config.evaluation
    indices = heldout_indices(tools, min(sizes.best_prompts, SHOWN_PROMPTS))
    prompts = [shop.make_prompt(tools.config.seed, int(i)) for i in indices]
    return [
        html.answer_table(
            f"{i + 1}. {prompt.kind.replace('_', ' ')}: {prompt.task}",
            prompt.text,
            [(name, m.texts[i], f"gold {m.gold[i]:.2f}") for name, m in methods.items()],
        )
        for i, prompt in enumerate(prompts)
    ]
