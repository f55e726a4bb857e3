"""The figures and the page of rm_ensembles."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from experiments.rm_ensembles import PAPER
from experiments.rm_ensembles.claims import BEST, Worlds
from experiments.rm_ensembles.config import Config
from experiments.rm_ensembles.members import uwo
from experiments.rm_ensembles.selection import sizes
from rlhf_jax.ops.statistics import best_of_n_kl
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

SHOWN = {"single": "single", "mean": "mean", "WCO": "WCO", BEST: BEST, "oracle": "oracle"}
CHEAPER = {
    BEST: f"{BEST}, separate",
    f"shared trunk, {BEST}": f"{BEST}, heads on one trunk",
    f"one start, {BEST}": f"{BEST}, one start",
    f"narrow, {BEST}": f"{BEST}, small first weights",
    "averaged": "averaged weights",
    "wide": "one wide model",
}
KL_LABEL = "KL to the base policy (nats)"


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Worlds],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the curves and the figures, and writes report.html."""
    axes = {"n": sizes(config), "betas": np.asarray(config.betas)}
    save_stages(job.out, {name: {**axes, **worlds} for name, worlds in stages.items()})
    write_page(
        job.out,
        "Reward-model ensembles",
        paper=PAPER,
        lead="Five reward models learn from the same comparisons, a quarter of them wrong. Answers "
        "are chosen by one of them, by their mean, by the worst of them (WCO), or by their mean "
        "minus lambda times their variance (UWO(lambda)), and judged by the gold score.",
        claims=claims,
        figures=figures(config, stages),
        table=table,
    )


def figures(config: Config, stages: Mapping[str, Worlds]) -> dict[str, Shown]:
    """Best of n, cheaper ensembles, lambda and the regularised optimum, and the control."""
    noisy = stages["noise"]
    titles = {"noise": f"{config.noise:.0%} of the labels swapped", "no-noise": "no label noise"}
    return {
        "best_of_n": show_panels(
            [
                *(gold_panel(config, stages[name], SHOWN, title) for name, title in titles.items()),
                proxy_panel(config, noisy),
                variance_panel(config, noisy),
            ],
            "Best of n",
            f"Gold score of the best of n = 1 to {config.candidates} by each proxy, against "
            "log n - (n - 1) / n. Below, with swapped labels: what the proxy says, in deviations "
            "of a member above the base policy; and the members' variance on the chosen answers.",
            "with noise the single model falls after its peak, the mean less, UWO does not",
        ),
        "cheaper": show_panels(
            [
                gold_panel(config, noisy, CHEAPER, "Cheaper ensembles, labels swapped"),
                penalty_panel(config, noisy),
            ],
            "Cheaper ensembles, and lambda",
            "Left, the same pairs and passes for heads on one trunk, members with one start or "
            "small first weights, averaged weights of those with one start, one model with the "
            "units of all five. Right, the gold "
            "score at the end against lambda, in units of 1 / deviation.",
            "one start, averaged weights and one wide model fall; gold rises with lambda",
        ),
        "regularised": show_panels(
            [regularised_panel(config, noisy), control_panel(config, stages["shared-errors"])],
            "Regularised optimum, and shared errors",
            "Left, the policy in proportion to exp(R / beta) over the candidates at beta = "
            f"{config.betas[0]:g} to {config.betas[-1]:g}, exact. Right, the control: the gold "
            "score falls beyond a radius and all members are linear, so they err alike.",
            "left, conservative proxies are above the single model; right, all of them fall",
        ),
    }


def gold_panel(config: Config, worlds: Worlds, names: Mapping[str, str], title: str) -> Panel:
    """Gold score against KL of the best of n."""
    x = kl_axis(config)
    series = {shown: mean_band(x, worlds["gold"][name]) for name, shown in names.items()}
    return Panel(title, KL_LABEL, "gold score", series)


def control_panel(config: Config, worlds: Worlds) -> Panel:
    """All proxies of members with shared errors."""
    return gold_panel(config, worlds, SHOWN, "Shared errors, labels swapped")


def proxy_panel(config: Config, worlds: Worlds) -> Panel:
    """What each proxy says of its own choice, above the base policy."""
    x = kl_axis(config)
    series = {}
    for name in ("single", "mean", "WCO", BEST):
        values = worlds["proxy"][name]
        series[name] = mean_band(x, values - values[:, :1])
    return Panel("Proxy", KL_LABEL, "proxy (deviations)", series)


def variance_panel(config: Config, worlds: Worlds) -> Panel:
    """Disagreement on the chosen answers."""
    x = kl_axis(config)
    names = ("single", "mean", "WCO", BEST)
    series = {name: mean_band(x, worlds["variance"][name]) for name in names}
    return Panel("Disagreement", KL_LABEL, "variance of the members", series)


def penalty_panel(config: Config, worlds: Worlds) -> Panel:
    """Final gold score against lambda; 0 is the mean."""
    names = ["mean", *(uwo(penalty) for penalty in config.penalties)]
    final = np.stack([worlds["gold"][name][:, -1] for name in names], axis=1)
    x = np.asarray([0.0, *config.penalties])
    levels = {
        f"{name}, final": float(worlds["gold"][name][:, -1].mean())
        for name in ("single", "WCO", "oracle")
    }
    panel = Panel("UWO", "lambda", "final gold score", {"UWO": mean_band(x, final)})
    return panel._replace(levels=levels)


def regularised_panel(config: Config, worlds: Worlds) -> Panel:
    """Gold score against KL, both means over worlds, over beta."""
    series = {
        shown: mean_band(worlds["kl"][name].mean(0), worlds["kl gold"][name])
        for name, shown in SHOWN.items()
    }
    return Panel("KL-regularised optimum, labels swapped", KL_LABEL, "gold score", series)


def kl_axis(config: Config) -> np.ndarray:
    """KL of the best of each n."""
    return np.asarray(best_of_n_kl(jnp.asarray(sizes(config))))


def mean_band(x: np.ndarray, values: np.ndarray) -> Series:
    """Mean over worlds with its interval."""
    return band(x, values, centre="mean", spread="t", units="worlds")
