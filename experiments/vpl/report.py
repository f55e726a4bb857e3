"""The figures and the page of vpl."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.vpl import PAPER
from experiments.vpl.config import Config
from experiments.vpl.studies import BINS, RULES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
USERS = {"two": "users u and -u", "four": "four random users"}


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    figures = {
        "queries": show_panels(
            [query_panel(config, stages[name], title) for name, title in USERS.items()],
            "Comparisons shown",
            "Accuracy on unseen comparisons against the noiseless preference. The encoder was "
            f"trained on {config.context} comparisons of a user. A set is the same for all users; "
            f"each answers one of the {config.kept} best of {config.sets}.",
            "VPL rises with the comparisons shown; without a latent it stays at chance for u, -u",
            share_y=True,
        ),
        "beta": show_panels(
            beta_panels(config, stages["sweep"]),
            "Weight of the KL",
            f"Users u and -u, {config.context} comparisons shown, {config.context} + "
            f"{config.targets} explained: the weight is relative to their sum.",
            "accuracy falls to one half where the KL falls to 0",
        ),
        "scales": show_panels(
            scale_panels(stages["scales"]),
            "Users of different scales",
            f"The second user's utilities are {config.scale:g} times those of the first. Mean "
            "reward of items in the order of the user's own utility; left as learned, right as win "
            "rates over other items.",
            "raw rewards of the second user range wider, win rates of both fill [0, 1]",
        ),
        "grid": show_panels(
            [grid_panel(stages["grid"], name, title) for name, title in GRID.items()],
            "Two goals in a grid",
            "Users want one of two corners. Soft-optimal policies on each user's win-rate reward, "
            "from the middle of the opposite side: exact probabilities of what was reached first.",
            "with VPL all users reach their own goal, without a latent they do not",
            share_y=True,
        ),
    }
    write_page(
        job.out,
        "VPL: rewards for users who differ",
        lead="An encoder reads a few comparisons of a user, a reward network reads its latent; a "
        "policy is planned on the reward of each user.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


GRID = {"vpl": "VPL", "no latent": "Bradley-Terry"}


def query_panel(config: Config, arrays: Arrays, title: str) -> Panel:
    """Random comparisons, sets by each rule, and the models that see none."""
    series = {"random comparisons": means(config.sizes, arrays["vpl"])}
    series |= {
        f"sets by {rule}": means(config.asked, arrays["active"][:, i])
        for i, rule in enumerate(RULES)
        if i
    }
    levels = {
        "Bradley-Terry": float(arrays["no latent"].mean()),
        "oracle": float(arrays["oracle"].mean()),
    }
    return Panel(title, "comparisons shown", "accuracy", series, levels=levels, log_x=True)


def beta_panels(config: Config, arrays: Arrays) -> list[Panel]:
    """What the weight does to service and to the posterior."""
    shown = {
        "accuracy": arrays["vpl"],
        "identified by means": arrays["identified"],
        "identified by draws": arrays["identified by a draw"],
    }
    curves = {name: means(config.betas, values) for name, values in shown.items()}
    kl = {"KL to the prior": means(config.betas, arrays["kl"])}
    return [
        Panel("service", "beta", "share", curves, levels={"chance": 0.5}, log_x=True),
        Panel("posterior", "beta", "KL (nats per user)", kl, log_x=True),
    ]


def scale_panels(arrays: Arrays) -> list[Panel]:
    """Rewards by rank of utility, for both users."""
    ranks = (np.arange(BINS) + 0.5) / BINS
    return [
        Panel(
            title,
            "rank of the item for the user",
            "reward",
            {
                user: means(ranks, arrays[f"{name} by utility"][:, i])
                for i, user in enumerate(("first user", "second user"))
            },
        )
        for name, title in (("raw", "raw rewards"), ("win rate", "win rates"))
    ]


def grid_panel(arrays: Arrays, name: str, title: str) -> Panel:
    """What was reached first, by moves."""
    shown = ("own goal", "other goal", "neither yet")
    x = np.arange(arrays[name].shape[-1])
    curves = {each: means(x, arrays[name][:, i]) for i, each in enumerate(shown)}
    return Panel(title, "moves", "share of users", curves)


def means(x: Sequence[float] | np.ndarray, values: np.ndarray) -> Series:
    """Mean and range over seeds of values [seeds, X]."""
    return band(x, values, centre="mean")
