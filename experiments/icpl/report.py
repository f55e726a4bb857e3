"""The figures and the page of the icpl experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.icpl import CLAIM, PAPER
from experiments.icpl.config import Config
from experiments.icpl.searches import BEST_ONLY, BUDGET, ICPL, NOISY, OPEN, rounds_within
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.intervals import mean_text
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.rewards.programs import query_count
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
MEAN: dict[str, Any] = {"centre": "mean", "spread": "t", "units": "grids"}
SEARCHES = (ICPL, BEST_ONLY, NOISY, OPEN)
CELLS = "reward of every cell"


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    found = stages["searches"]
    figures = {
        "rounds": show_panels(
            [round_panel(found, SEARCHES), round_panel(stages["long"], (ICPL, OPEN))],
            "Score by round",
            f"True score of the incumbent's policy, {config.number} programs a round. Left: the "
            f"noisy person errs about a score by N(0, {config.noise:g}^2). Right: more rounds on "
            "the same grids. All searches on a grid begin with the same programs.",
            "feedback would show as ICPL above OpenLoop, which rises only because its best is kept",
        ),
        "queries": show_panels(
            [query_panel(config, stages)],
            "Score by comparisons",
            f"{config.net_seeds} grids. A reward of every cell is fitted to pairs of trajectories; "
            "it begins from nothing, without the terms that the programs are made of.",
            "the programs need tens of comparisons, the reward of cells more of them",
        ),
        "numbers": show_panels(
            [number_panel(config, stages["numbers"])],
            "Programs of a round",
            f"The last incumbent at no more than {query_count(*BUDGET)} comparisons: few programs "
            "and many rounds, or the reverse.",
            "the curve is flat where the split does not matter",
        ),
    }
    write_page(
        job.out,
        CLAIM,
        lead="Reward programs of a small language, ranked only by which trained policy is better, "
        "and changed by a seeded grammar in place of a language model.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def round_panel(found: Arrays, names: Sequence[str]) -> Panel:
    """Incumbents by round."""
    rounds = np.arange(1, found[names[0]].shape[1] + 1)
    curves = {name: band(rounds, found[name], **MEAN) for name in names}
    levels = {"best policy": float(found["oracle"].mean())} if "oracle" in found else {}
    return Panel("", "round", "score", curves, levels=levels)


def query_panel(config: Config, stages: Mapping[str, Arrays]) -> Panel:
    """ICPL and the reward of cells on the same grids."""
    found, scores = stages["searches"], stages["networks"]["score"]
    curves = {
        ICPL: band(found["queries"][0], found[ICPL][: len(scores)], **MEAN),
        CELLS: band(config.pairs, scores, **MEAN),
    }
    levels = {"best policy": float(found["oracle"][: len(scores)].mean())}
    return Panel("", "comparisons", "score", curves, levels=levels, log_x=True)


def number_panel(config: Config, found: Arrays) -> Panel:
    """Scores against K."""
    runs = np.stack([found[str(number)] for number in config.numbers], axis=1)
    return Panel("", "programs of a round", "score", {ICPL: band(config.numbers, runs, **MEAN)})


def score_table(config: Config, stages: Mapping[str, Arrays]) -> Table:
    """The last score of everything, with its interval over grids."""
    found, nets = stages["searches"], stages["networks"]["score"]
    rows: list[tuple[str, str, str]] = [
        (name, _asked(config, name, config.rounds), mean_text(found[name][:, -1]))
        for name in SEARCHES
    ]
    rows += [
        (f"{name}, {count} rounds", _asked(config, name, count), mean_text(x[:, -1]))
        for name, x in stages["long"].items()
        for count in [config.long_rounds]
    ]
    rows += [
        (f"{ICPL}, {k} programs a round", str(query_count(rounds, k)), mean_text(found_k))
        for k in config.numbers
        for rounds in [rounds_within(query_count(*BUDGET), k)]
        for found_k in [stages["numbers"][str(k)]]
    ]
    rows += [
        (f"{CELLS}, {config.net_seeds} grids", str(count), mean_text(nets[:, place]))
        for place, count in enumerate(config.pairs)
    ]
    rows.append(("best policy", "", mean_text(found["oracle"])))
    return Table(
        f"Score of the policy, mean of {config.num_seeds} grids and its 95% interval",
        ("reward by", "comparisons", "score"),
        rows,
    )


def _asked(config: Config, name: str, rounds: int) -> str:
    """Comparisons of a search; OpenLoop needs them to find its best program, and no others."""
    count = rounds * config.number - 1 if name == OPEN else query_count(rounds, config.number)
    return str(count)
