"""The figures and the page of ufo."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.ufo import CLAIM, PAPER
from experiments.ufo.config import Config
from experiments.ufo.shop import POLICIES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
SHOWN = ("single turn", "feedback hidden", "UFO", "decay and repetition")


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    tables: Sequence[Table],
    *,
    shop: Arrays,
) -> None:
    """Saves the data and the figures, and writes report.html; `shop` may be {}."""
    save_stages(job.out, {**stages, **({"shop": shop} if shop else {})})
    language = {"shop": shop_figure(config, shop)} if shop else {}
    write_page(
        job.out,
        "Try again",
        lead=CLAIM + ".",
        paper=PAPER,
        claims=claims,
        tables=tables,
        figures={
            "success": success_figure(config, stages),
            "unique": unique_figure(config, stages),
            "decay": decay_figure(config, stages),
            **language,
        },
    )


def shop_figure(config: Config, shop: Arrays) -> Shown:
    """Succ@k of the base model and after both trainings."""
    tries = np.arange(1, config.shop.turns + 1)
    curves = {
        name: band(tries, shop["succ"][:, i], centre="mean", spread="range", units="seeds")
        for i, name in enumerate(POLICIES)
    }
    return show_panels(
        [Panel("Succ@k, with feedback", "tries", "questions solved", curves)],
        "Language: look-ups by the shop's base model",
        "Held-out questions about a catalogue that are solved within k tries of one episode, each "
        "wrong answer being followed by the words try again.",
        "UFO gains more by its later tries than single-turn training",
    )


def success_figure(config: Config, stages: Mapping[str, Arrays]) -> Shown:
    """Succ@k and Pass@k."""
    tries = np.arange(1, config.turns + 1)

    def curves(which: str) -> dict[str, Series]:
        return {name: band(tries, stages[name][which], centre="mean", spread="t") for name in SHOWN}

    return show_panels(
        [
            Panel("Succ@k, with feedback", "tries", "questions solved", curves("succ")),
            Panel("Pass@k, independent", "tries", "questions solved", curves("pass")),
        ],
        "Tries and success",
        "Share of questions that are solved within k tries of one episode, and within k "
        "independent first tries, on the same questions.",
        "UFO rises with every try, single-turn training hardly; independently neither gains",
        share_y=True,
    )


def unique_figure(config: Config, stages: Mapping[str, Arrays]) -> Shown:
    """Unique answers and success along a training."""
    steps = np.linspace(0, config.steps, config.points).round()

    def curves(which: str) -> dict[str, Series]:
        found = {name: stages[name][f"points/{which}"] for name in SHOWN}
        found = {name: x[..., -1] if x.ndim == 3 else x for name, x in found.items()}
        return {name: band(steps, x, centre="mean", spread="t") for name, x in found.items()}

    return show_panels(
        [
            Panel("Different answers", "step", "unique answers over tries", curves("unique")),
            Panel(f"Success in {config.turns} tries", "step", "solved", curves("succ")),
        ],
        "What training does to the second try",
        "Different answers over tries where the first answer is wrong, and questions solved.",
        "single-turn training repeats ever more, and solves less; UFO the opposite",
    )


def decay_figure(config: Config, stages: Mapping[str, Arrays]) -> Shown:
    """Mean tries and success by gamma."""
    gammas = {x: f"decay {x:g}" for x in config.decays} | {config.decay: "decay", 1.0: "UFO"}
    order = sorted(gammas)

    def curve(which: str) -> dict[str, Series]:
        found = np.stack([np.atleast_2d(stages[gammas[x]][which].T)[-1] for x in order], axis=1)
        return {"UFO": band(order, found, centre="mean", spread="t")}

    return show_panels(
        [
            Panel("Tries", "decay", "mean tries", curve("turns")),
            Panel(f"Success in {config.turns} tries", "decay", "solved", curve("succ")),
        ],
        "Decay",
        "The reward of success is decay^t at try t, counted from 0; 1 is no decay.",
        "fewest tries near 0.7, more of them on both sides; success rises up to 0.9",
    )
