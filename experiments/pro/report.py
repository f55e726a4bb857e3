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

Found = Mapping[str, np.ndarray]  # method -> [num_seeds, lengths, measures]
MAIN = (PRO, PLAIN, SFT, RRHF, SHUFFLED)
TERM = (PRO, PRO + ALONE, PLAIN, PLAIN + ALONE)
LABELS = ("pairs in gold's order", "gold of the policy")


def write_report(
    job: Run, config: Config, found: Found, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {"worlds": found})
    write_page(
        job.out,
        CLAIM,
        paper=PAPER,
        lead="A few answers to each prompt are ranked by a noisy reward model, and a policy learns "
        "from the first n of them. Every method has the same candidates, gradient steps and step "
        "size; the loss is divided by n - 1.",
        claims=claims,
        table=table,
        figures=figures(config, found),
    )


def figures(config: Config, found: Found) -> dict[str, Shown]:
    """What n does, and the supervised term."""
    return {
        "length": show_panels(
            [panel(config.lengths, found, MAIN, k) for k in (0, 1)],
            "Length of the ranking",
            f"Held-out prompts with {config.answers} answers, log-linear policies. RRHF is a hinge "
            "on all pairs and the likelihood of the best; shuffled rankings have random scores.",
            "accuracy rises with n; with temperatures reward does not",
        ),
        "supervised": show_panels(
            [panel(config.lengths, found, TERM, k) for k in (0, 1)],
            "The likelihood of the best answer",
            f"The same with and without the term of weight {config.sft_weight:g} (n - 1)^2.",
            "reward with temperatures falls with n without the term too",
        ),
    }


def panel(lengths: Sequence[int], found: Found, names: Sequence[str], place: int) -> Panel:
    """A measure against n."""
    curves = {
        name: band(np.array(lengths), found[name][..., place], centre="mean", spread="t")
        for name in names
    }
    return Panel("", "n, answers of a ranking", LABELS[place], curves)
