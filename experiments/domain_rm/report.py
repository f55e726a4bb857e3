"""The figures and the page of domain_rm."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.domain_rm import PAPER
from experiments.domain_rm.config import FEW, MANY, Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.training import Run


def write_report(
    job: Run,
    config: Config,
    found: Mapping[str, np.ndarray],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    arrays = {name.replace("/", ": "): each for name, each in found.items()}
    save_stages(job.out, {"worlds": {"sizes": config.sizes, "ns": config.ns, **arrays}})
    figures = {
        "accuracy": show_panels(
            [accuracy_panel(config, found)],
            "Accuracy against pairs",
            f"Agreement with the noise-free preference on {config.test_pairs} held-out pairs. "
            f"Features are rated with noise {config.noise:g}; the raw model sees the whole vector, "
            "with the best of its ridges on the held-out pairs. A network may die: it has one "
            "score for all answers and an accuracy of 0.5.",
            "features lead up to some thousand pairs, then the raw model overtakes them",
        ),
        "best_of_n": show_panels(
            [best_panel(config, found)],
            "Best of n",
            f"True log-odds over an average answer of the best of n by each model, over "
            f"{config.prompts} prompts.",
            f"features from {FEW} pairs stay near the truth and above the raw model from {MANY}",
        ),
    }
    write_page(
        job.out,
        "A reward of a few named features",
        lead="A preference is decided by seven qualities. One reward model sees noisy ratings of "
        "them, one sees the whole answer, one was given only some of them.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def accuracy_panel(config: Config, found: Mapping[str, np.ndarray]) -> Panel:
    """All models, with the untrained mean and the ceiling of the ratings."""
    some = f"{config.kept} of {config.features} features"
    names = {"features": "features", some: "some features", "raw vector": "raw"}
    curves = {
        shown: band(config.sizes, found[f"accuracy/{name}"], centre="mean")
        for shown, name in names.items()
    }
    curves["6-4-2 network"] = band((FEW, MANY), found["accuracy/network"], centre="mean")
    levels = {
        "untrained mean of features": float(found["accuracy/mean of features"].mean()),
        "true weights on ratings": float(found["accuracy/true weights"].mean()),
    }
    return Panel("", "pairs", "accuracy", curves, levels=levels, log_x=True)


def best_panel(config: Config, found: Mapping[str, np.ndarray]) -> Panel:
    """What is chosen."""
    names = {
        "truth": "truth",
        f"features, {FEW} pairs": "features, few",
        f"raw vector, {MANY} pairs": "raw, many",
        f"{config.kept} of {config.features} features, {MANY} pairs": "some features, many",
    }
    curves = {
        shown: band(config.ns, found[f"best/{name}"], centre="mean")
        for shown, name in names.items()
    }
    return Panel("", "n", "true log-odds of the best of n", curves, log_x=True)
