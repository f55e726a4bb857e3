"""The figures and the page of the pro experiment."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.pro import CLAIM, PAPER
from experiments.pro.config import Config
from experiments.pro.methods import ALONE, PLAIN, PRO, RRHF, SFT, SHUFFLED
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.training import Run

Stages = Mapping[str, Mapping[str, np.ndarray]]
MAIN = (PRO, PLAIN, SFT, RRHF, SHUFFLED)
TERM = (PRO, PRO + ALONE, PLAIN, PLAIN + ALONE)
LABELS = ("pairs in gold's order", "gold of the policy")


def write_report(
    job: Run, config: Config, stages: Stages, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    write_page(
        job.out,
        CLAIM,
        paper=PAPER,
        lead="A few answers to each prompt are ranked by a noisy reward model, and a policy learns "
        "from the first n of them. Every method has the same candidates, gradient steps and step "
        "size; the loss is divided by n - 1.",
        claims=claims,
        table=table,
        figures=figures(config, stages),
    )


def figures(config: Config, stages: Stages) -> dict[str, Shown]:
    """What n does, the supervised term, and strings."""
    worlds, strings = stages["worlds"], stages["strings"]
    ends = (config.lengths[0], config.lengths[-1])
    return {
        "length": show_panels(
            [panel(config.lengths, worlds, MAIN, k) for k in (0, 1)],
            "Length of the ranking",
            f"Held-out prompts with {config.answers} answers, log-linear policies. RRHF is a hinge "
            "on all pairs and the likelihood of the best; shuffled rankings have random scores.",
            "accuracy rises with n; with temperatures reward does not",
        ),
        "supervised": show_panels(
            [panel(config.lengths, worlds, TERM, k) for k in (0, 1)],
            "The likelihood of the best answer",
            f"The same with and without the term of weight {config.sft_weight:g} (n - 1)^2.",
            "reward with temperatures falls with n without the term too",
        ),
        "strings": show_panels(
            [
                panel(ends, strings, (PRO, PLAIN, SHUFFLED), 0, "pairs in order"),
                panel(ends, strings, (PRO, PLAIN, SHUFFLED), 1, "value of its own symbols"),
            ],
            "A transformer on strings",
            "Symbols have values, the reward is the sigmoid of twice the mean value of a string; "
            "strings have unequal lengths, and log-probs are averaged over tokens.",
            "both rise with n, but not on shuffled rankings",
        ),
    }


def panel(
    lengths: Sequence[int],
    found: Mapping[str, np.ndarray],
    names: Sequence[str],
    place: int,
    label: str | None = None,
) -> Panel:
    """A measure against n."""
    curves = {
        name: band(np.array(lengths), found[name][..., place], centre="mean", spread="t")
        for name in names
    }
    return Panel("", "n, answers of a ranking", label or LABELS[place], curves)
