"""The plots and the page of secrets_rm."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.secrets_rm import PAPER
from experiments.secrets_rm.config import Config
from experiments.secrets_rm.meta import MEASURES
from experiments.secrets_rm.repairs import DECILES, METHODS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
SHOWN = (
    ("labels kept or softened", ("Bradley-Terry", "margin", "soft + margin")),
    ("labels changed", ("Bradley-Terry", "flip", "h = 1 + margin", "drop", "flip at random")),
)


def write_report(
    job: Run, config: Config, stages: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    repairs, meta = stages["repairs"], stages["meta"]
    figures = {
        "deciles": show_panels(
            decile_panels(repairs),
            "Strength of preference",
            f"Pairs by the vote of {config.voters} reward models, from the least to the greatest "
            f"strength, {config.noise:.0%} of the labels wrong: share of right labels, and "
            "accuracy on clean pairs of a reward model trained on that tenth alone; right, how far "
            "the voters differ.",
            "the bottom tenths are wrong labels and train a model below chance; the top tenth is "
            "not the best",
        ),
        "epochs": show_panels(
            curve_panels(repairs["curves"]),
            "Training on repaired labels",
            "Accuracy on clean pairs after each pass over the noisy ones; the table has "
            "more methods. h = 1: all labels of negative strength are turned.",
            "flip and drop stay flat, the others fall as they learn the wrong labels by heart",
            share_y=True,
        ),
        "contrast": show_panels(
            contrast_panels(stages["contrast"]),
            "Contrastive terms",
            "The same pairs with their noise, Bradley-Terry with dropout and a contrastive term.",
            "SimCSE falls like dropout alone, SwAV on differences later",
            columns=1,
        ),
        "rounds": show_panels(
            round_panels(meta),
            "MetaRM in rounds",
            "In each round the reward model is retrained with unlabelled answers of the last "
            "policy, then a policy is trained against it. Numbers with MetaRM minus those with "
            "eta = 0 in the same world, on answers of the new policy: mean gold score; accuracy "
            "and mean difference of two scores of the reward model.",
            "the gap of scores is smaller with MetaRM, gold and accuracy pass those of eta = 0",
            columns=3,
        ),
    }
    write_page(
        job.out,
        "Wrong labels, found by voting and repaired",
        lead="Ten reward models vote on the pairs that they were trained on; the pairs they doubt "
        "are flipped, softened, given a margin or dropped.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def decile_panels(repairs: Arrays) -> list[Panel]:
    """What each tenth is worth, and how far the voters differ on it."""
    tenths = np.arange(1, DECILES + 1)
    return [
        Panel(
            "one tenth of the pairs",
            "tenth by strength",
            "share",
            {
                "right labels": band(tenths, repairs["right"]),
                "accuracy, trained on it alone": band(tenths, repairs["deciles"]),
            },
            levels={"chance": 0.5},
        ),
        Panel(
            "voters",
            "mean strength of the tenth",
            "standard deviation",
            {"voters": band(repairs["strength"].mean(0), repairs["spread"])},
        ),
    ]


def curve_panels(curves: np.ndarray) -> list[Panel]:
    """Accuracy against passes, from curves [seeds, methods, epochs]."""
    passes = np.arange(1, curves.shape[-1] + 1)
    return [
        Panel(
            title,
            "passes over the pairs",
            "accuracy on clean pairs",
            {name: band(passes, curves[:, METHODS.index(name)]) for name in names},
        )
        for title, names in SHOWN
    ]


def contrast_panels(found: Arrays) -> list[Panel]:
    """Accuracy against passes by contrastive term."""
    series = {
        name: band(np.arange(1, curves.shape[1] + 1), curves, centre="mean", spread="t")
        for name, curves in found.items()
    }
    return [Panel("", "passes over the pairs", "accuracy on clean pairs", series)]


def round_panels(meta: Arrays) -> list[Panel]:
    """What MetaRM adds to gold, accuracy and gap of scores on the policy's answers, by round."""
    measures = {"accuracy": "shifted accuracy", "|r - r'|": "shifted gap"}
    drawn = {"gold score": meta["gold"]} | {
        name: meta["rounds"][..., MEASURES.index(each)] for name, each in measures.items()
    }
    numbers = np.arange(1, meta["gold"].shape[-1] + 1)
    return [
        Panel(
            name,
            "round",
            "MetaRM minus eta = 0",
            {"MetaRM": band(numbers, values[:, 1] - values[:, 0], centre="mean", spread="t")},
            levels={"eta = 0": 0.0},
        )
        for name, values in drawn.items()
    ]
