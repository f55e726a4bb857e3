"""Active queries, one likelihood for all feedback, and both together in a tabular world."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.feedback_types import stages, tabular
from experiments.feedback_types.config import Config
from experiments.feedback_types.kinds import MIXED, PARTS, TYPES
from experiments.feedback_types.learner import RANDOM, RULES
from experiments.feedback_types.report import write_report
from experiments.feedback_types.tabular import LOOP_RULES
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim, share_claim
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
TARGETS = (0.9, 0.95, 0.98)
ACTIVE, TRAPPED = ("mutual information", "D-optimal"), "entropy"


def run(config: Config, job: Run) -> Outcome:
    """Rules over one pool, types of feedback, questions about trajectories."""
    works = {
        "queries": partial(stages.active_queries, config),
        "types": partial(stages.feedback_types, config),
        "loop": partial(tabular.tabular_loop, config),
    }
    found = run_stages(job, works, x64=True)  # in float32 scores of pairs near a coin flip tie
    cosines = dict(zip(RULES, found["queries"]["cosine"], strict=True))
    regrets = dict(zip(LOOP_RULES, found["loop"]["regret"], strict=True))
    claims = [
        *query_claims(config, cosines),
        *type_claims(found["types"]),
        *loop_claims(config, regrets),
    ]
    table = query_table(config, cosines, found["queries"]["copies"])
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, cosines, found["types"], regrets), table=table)


def needed(cosines: np.ndarray, target: float) -> np.ndarray:
    """Queries [seeds] until the cosine [seeds, queries + 1] first reaches the target; one more than
    were asked where it never does."""
    reached = cosines >= target
    return np.where(reached.any(-1), reached.argmax(-1), cosines.shape[-1])


def query_claims(config: Config, cosines: Arrays) -> list[Claim]:
    """Information beats chance; what looks at the mean prediction alone falls for near-copies.

    Volume removal ranks pairs as entropy does: one claim serves both.
    """
    at = {name: runs[:, config.compared] for name, runs in cosines.items()}
    when = f"after {config.compared} queries"
    slow = np.median(needed(cosines[RANDOM], 0.95))
    active = {"kind": "paper", "source": "survey: active queries"}
    ahead = [
        share_claim(
            f"{name}: seeds ahead of random {when}", at[name] > at[RANDOM], ">=", 0.8, **active
        )
        for name in ACTIVE
    ]
    quick = [
        bootstrap_claim(
            f"{name}: median queries to a cosine of .95",
            lambda runs: float(np.median(needed(runs, 0.95))),
            [cosines[name]],
            "<=",
            20,
            kind="ours",
            source="half of what random needs in a trial",
            baseline=("random", slow),
        )
        for name in ACTIVE
    ]
    worse = mean_claim(
        f"{TRAPPED} less random: mean cosine {when}",
        at[TRAPPED] - at[RANDOM],
        "<",
        0,
        kind="paper",
        source="survey: uncertain is not informative",
        baseline=(ACTIVE[0], (at[ACTIVE[0]] - at[RANDOM]).mean()),
    )
    return [*ahead, *quick, worse]


def type_claims(cosines: Arrays) -> list[Claim]:
    """Means over seeds, and the mixture against its worst part, seed by seed."""
    first = {name: runs[:, 0] for name, runs in cosines.items()}
    last = {name: runs[:, -1] for name, runs in cosines.items()}
    parts = np.min([last[name] for name in PARTS], axis=0)
    worst = min(TYPES, key=lambda name: last[name].mean())
    about = {"kind": "ours", "source": "one likelihood for all feedback"}
    return [
        mean_claim(
            "ranking less comparison: mean cosine",
            last["ranking"] - last["comparison"],
            ">=",
            0,
            **about,
        ),
        mean_claim(
            "least mean cosine of a type of feedback",
            last[worst],
            ">=",
            0.85,
            baseline=("after one record", first[worst].mean()),
            **about,
        ),
        share_claim(
            "mixture: seeds not below its worst part", last[MIXED] >= parts, ">=", 0.8, **about
        ),
    ]


def loop_claims(config: Config, regrets: Arrays) -> list[Claim]:
    """Planning with the estimate gets close to the best policy, sooner with chosen questions."""
    chosen, even, at = regrets[ACTIVE[0]], regrets[RANDOM], config.compared
    about = {"kind": "ours", "source": "estimate, plan and ask in one loop"}

    def ratio(over: np.ndarray, under: np.ndarray) -> float:
        return float(over.mean() / under.mean())

    return [
        bootstrap_claim(
            "loop: mean regret after all queries over that before",
            ratio,
            [chosen[:, -1], chosen[:, 0]],
            "<=",
            0.1,
            **about,
        ),
        bootstrap_claim(
            f"loop: mean regret over that of random, {at} queries",
            ratio,
            [chosen[:, at], even[:, at]],
            "<",
            1,
            **about,
        ),
    ]


def query_table(config: Config, cosines: Arrays, copies: np.ndarray) -> Table:
    """Rules as rows."""
    marks = sorted({config.queries // 4, config.compared, config.queries})
    rows = []
    for i, (name, runs) in enumerate(cosines.items()):
        medians = [np.median(needed(runs, target)) for target in TARGETS]
        shown = [f"{m:g}" if m <= config.queries else f"> {config.queries}" for m in medians]
        wins = int((runs[:, config.compared] > cosines[RANDOM][:, config.compared]).sum())
        rows.append((name, *runs[:, marks].mean(0), *shown, wins, copies[i].mean()))
    return Table(
        "Cosine of estimate and hidden reward, and queries needed",
        (
            "rule",
            *(f"cosine after {mark}" for mark in marks),
            *(f"queries to {target:g}" for target in TARGETS),
            f"ahead of random after {config.compared}",
            "near-copies asked",
        ),
        rows,
        note=f"means and medians over {config.num_seeds} seeds; half of every pool of "
        f"{config.pool} are near-copies",
    )


def summary(config: Config, cosines: Arrays, types: Arrays, regrets: Arrays) -> dict:
    """What the table leaves out."""
    last = {name: runs[:, -1] for name, runs in types.items()}
    marks = {"0": 0, "compared": config.compared, "all": config.queries}
    return {
        "cosine by rule": {name: runs.mean(0).tolist() for name, runs in cosines.items()},
        "types, mean": {name: float(each.mean()) for name, each in last.items()},
        "types, least": {name: float(each.min()) for name, each in last.items()},
        "loop, mean regret": {
            name: {mark: float(runs[:, at].mean()) for mark, at in marks.items()}
            for name, runs in regrets.items()
        },
    }
