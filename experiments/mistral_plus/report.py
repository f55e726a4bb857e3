"""The plots and the page of mistral_plus."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.mistral_plus import CLAIM, PAPER
from experiments.mistral_plus.config import Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Curves = Mapping[str, Mapping[str, np.ndarray]]
MAIN = ("direct RL", "SFT", "SFT + RL")
CAUSES = ("direct RL", "direct RL, no KL", "rejection sampling", "SFT")
LABELS = {
    "accuracy": "general accuracy",
    "nll": "general NLL",
    "toxic": "mass of toxic answers",
    "reward": "chat reward",
    "kl": "KL to the base in chats (nats)",
}
POINTS = 25  # of a curve
KEPT = {
    "gold": "gold",
    "kept/corpus loss": "loss on the base corpus (nats a token)",
    "kept/look-up": "look-ups that are right",
    "kept/harm": "attacks complied with",
}


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Curves],
    shop: Curves,
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {**stages, **({"shop": shop} if shop else {})})
    chat, cold = stages["chat"], stages["cold"]
    pairs = (("reward", "accuracy"), ("reward", "nll"), ("kl", "nll"), ("kl", "toxic"))
    figures = {
        "frontier": show_panels(
            [along_panel(chat, MAIN, *pair) for pair in pairs],
            "What a better chat costs",
            "General skill and toxic answers along each training, against chat reward and against "
            "KL. A curve ends at what all worlds reach.",
            "direct RL is above SFT at every reward; SFT + RL lies between",
        ),
        "causes": show_panels(
            [along_panel(chat, CAUSES, "reward", name) for name in ("accuracy", "nll")],
            "Which part of it matters?",
            "Without the KL penalty, and with likelihood of the base's own rewarded answers.",
            "the KL penalty changes little; the base's own answers recover most of the distance",
        ),
        "matched KL": show_panels(
            [along_panel(chat, MAIN, "kl", name) for name in ("reward", "accuracy")],
            "At equal KL",
            f"Chat reward and general accuracy against KL to the base; claims are read at "
            f"{config.kl:g}.",
            "direct RL has the higher reward at every KL",
        ),
        "cold start": show_panels(
            [cold_panel(config, cold, name) for name in ("direct RL", "SFT")],
            "Cold start",
            "Chat reward by update, for bases that are rewarded less often; no answer is toxic.",
            "the rarer a reward, the later RL starts; SFT does not care",
            share_y=True,
        ),
    }
    if shop:
        figures["shop"] = show_panels(
            [shop_panel(shop, name) for name in KEPT],
            "Language: the shop from its base",
            "Held-out gold by update, and what is kept of the base: loss on the base corpus, "
            "look-up drills, attacks that an answer complies with.",
            "gold first: a policy that earns none shows nothing about what it keeps",
        )
    write_page(
        job.out, "Direct RLHF", lead=CLAIM + ".", paper=PAPER, claims=claims, figures=figures,
        table=table,
    )  # fmt: skip


def along_panel(curves: Curves, names: Sequence[str], x_name: str, y_name: str) -> Panel:
    """One number against another along each training."""
    series = {}
    for name in names:
        x, y = curves[name][x_name], curves[name][y_name]
        grid = np.linspace(x[:, 0].max(), x.max(axis=1).min(), POINTS)
        series[name] = band(grid, crossed(x, y, grid), centre="mean", spread="t", units="worlds")
    return Panel("", LABELS[x_name], LABELS[y_name], series)


def crossed(x: np.ndarray, y: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """[N, M]: y [N, T] where x [N, T] first reaches each of these levels."""
    places = np.argmax(x[:, None, :] >= grid[:, None], axis=-1)
    return np.take_along_axis(y, places, axis=-1)


def cold_panel(config: Config, curves: Curves, name: str) -> Panel:
    """Chat reward by update."""
    kept = np.linspace(0, config.cold_steps, POINTS).astype(int)
    series = {
        f"share {share:g}": band(
            kept, curves[f"{name}, {share:g}"]["reward"][:, kept], centre="mean", spread="range",
            units="worlds",
        )
        for share in config.cold_shares
    }  # fmt: skip
    return Panel(name, "update", "chat reward", series, levels={"target": config.target})


def shop_panel(shop: Curves, name: str) -> Panel:
    """A number along each training."""
    series = {method: Series(each["step"], each[name]) for method, each in shop.items()}
    return Panel("", "update", KEPT[name], series)
