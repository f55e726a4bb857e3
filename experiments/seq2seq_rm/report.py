"""The figures and the page of seq2seq_rm."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.seq2seq_rm import PAPER
from experiments.seq2seq_rm.claims import final
from experiments.seq2seq_rm.config import Config
from experiments.seq2seq_rm.learners import ARMS, DENSE, IGNORES, MATCH, RULE, SCALAR
from experiments.seq2seq_rm.lengths import TAILS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
DRAWN = (RULE, MATCH, DENSE, SCALAR)


def write_report(
    job: Run,
    config: Config,
    found: Arrays,
    lengths: Arrays,
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {"policies": found, "lengths": lengths})
    figures = {
        "training": show_panels(
            [training_panel(config, found, i) for i in range(len(config.sizes))],
            "Training",
            "Share of right tokens of the policy, PPO on each reward.",
            "both rewards of the rewriting model rise above the scalar, most with few pairs",
            columns=len(config.sizes),
            share_y=True,
        ),
        "pairs": show_panels(
            pair_panels(config, found),
            "Numbers of pairs",
            "Left, the share of right tokens at the end; right, accuracy on held-out pairs.",
            "the scalar needs more pairs to come as far",
        ),
        "lengths": show_panels(
            length_panels(lengths),
            "Length",
            "Sum of an answer's rewards against the length of its neutral tail; chosen answers "
            "have 3 such tokens on average, rejected answers 1. More pairs: "
            f"{config.more_pairs} in place of {config.length_pairs}.",
            "divided by the length it is flat from 2 on; otherwise it rises with every token",
        ),
    }
    write_page(
        job.out,
        "Seq2seq reward model: corrections in place of scores",
        lead="A reward model is trained to write the chosen answer where it has read either. "
        "Tokens of a sampled answer are paid until its rewriting diverges, and fined where they "
        "differ from then on.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def training_panel(config: Config, found: Arrays, place: int) -> Panel:
    """The curves of one number of pairs."""
    steps = np.arange(config.updates + 1)
    curves = {
        arm: band(steps, found["shares"][:, place, ARMS.index(arm)], centre="mean") for arm in DRAWN
    }
    return Panel(f"{config.sizes[place]} pairs", "update", "share of right tokens", curves)


def pair_panels(config: Config, found: Arrays) -> list[Panel]:
    """Final shares and accuracy against the number of pairs."""
    ends = {arm: band(config.sizes, final(found, arm), centre="mean") for arm in (*DRAWN, IGNORES)}
    accuracy = {
        name: band(config.sizes, found["accuracy"][..., i], centre="mean")
        for i, name in enumerate(("number of agreements", "scalar"))
    }
    return [
        Panel("policy", "pairs", "final share of right tokens", ends, log_x=True),
        Panel("held-out pairs", "pairs", "accuracy", accuracy, log_x=True),
    ]


def length_panels(lengths: Arrays) -> list[Panel]:
    """Returns against tails, in two units; the scalar on the right."""
    tails = np.asarray(TAILS)
    by_length = {
        RULE: band(tails, lengths["returns"], centre="mean"),
        f"{RULE}, more pairs": band(tails, lengths["more"], centre="mean"),
    }
    summed = {
        RULE: band(tails, lengths["summed"], centre="mean"),
        "Bradley-Terry, from tail 0": band(
            tails, lengths["weight"][:, None] * tails, centre="mean"
        ),
    }
    return [
        Panel("divided by length", "tail tokens", "return", by_length),
        Panel("not divided", "tail tokens", "return", summed),
    ]
