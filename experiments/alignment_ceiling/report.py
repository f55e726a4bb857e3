"""The plots and the page of alignment_ceiling."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.alignment_ceiling import PAPER
from experiments.alignment_ceiling.config import Config
from experiments.alignment_ceiling.gradients import KINDS, LEARNERS
from experiments.alignment_ceiling.sweeps import SCORES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
SHOWN = {"score": "score optimised", "gold": "gold score", "downstream": "downstream metric"}
NATS = "KL to the reference (nats)"


def write_report(
    job: Run, config: Config, stages: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    figures = {
        "sweeps": show_panels(
            sweep_panels(stages["pool"]),
            "From weak to strong optimisation",
            "Exact optima of each score under a KL penalty, and best-of-n by the reward model; KL "
            "is the mean over worlds at each penalty. Scores are in deviations of the pool.",
            "the score rises, gold and the downstream metric peak and fall, the metric first",
            columns=3,
        ),
        "accuracy": show_panels(
            [accuracy_panel(stages["pool"])],
            "Accuracy on the policy's own answers",
            "How often two answers drawn from the policy are ordered as gold orders them. Thin "
            "lines: accuracy of the reward model on labels, and the best that labels allow.",
            "accuracy starts near one and falls below one half as the policy moves away",
            columns=1,
        ),
        "population": show_panels(
            population_panels(config, stages["population"]),
            "Which reward model is better?",
            "Reward models of different data, noise and inputs. Left, gold of the exact optimum "
            "at a small and a large KL against the rank of the model's held-out accuracy; right, "
            "at the large KL against the number of pairs, labels not reversed.",
            "accuracy ranks the models at the small KL and misranks them at the large one",
        ),
        "gradients": show_panels(
            gradient_panels(stages["gradients"]),
            "Policy gradients",
            f"Tables of {config.gradients.prompts} prompts x {config.gradients.answers} answers; "
            "the exact optima bound the score at any KL. Above, answers drawn evenly from the "
            "pool, below with its long tail kept. KL is the mean over worlds at a measurement.",
            "sampled methods follow the curve of the exact optima",
            columns=3,
        ),
    }
    write_page(
        job.out,
        "Objective mismatch: accuracy, score, gold, downstream",
        lead="A reward model is trained on labels, a policy on its score, and an evaluation looks "
        "at something else. Which number says anything about the next?",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def curve(kl: np.ndarray, values: np.ndarray, units: str = "worlds") -> Series:
    """Runs [S, N] at their mean KL."""
    return band(kl.mean(0), values, centre="mean", spread="t", units=units)


def sweep_panels(pool: Arrays) -> list[Panel]:
    """A panel for each measure."""
    return [
        Panel(
            "",
            NATS,
            label,
            {
                name: curve(pool[f"{name}/kl"], pool[f"{name}/{measure}"])
                for name in (*SCORES, "best of n")
            },
        )
        for measure, label in SHOWN.items()
    ]


def accuracy_panel(pool: Arrays) -> Panel:
    """Order accuracy against KL, with the accuracies on labels as lines."""
    names = ("reward model", "ensemble minimum", "length-blind")
    along = {x: pool[f"{x}/along"] for x in names}
    along = {x: np.where(np.isinf(values), np.nan, values) for x, values in along.items()}
    return Panel(
        "",
        NATS,
        "order accuracy",
        {name: curve(pool[f"{name}/kl"], values) for name, values in along.items()},
        levels={
            "training labels": float(pool["train"].mean()),
            "held-out labels": float(pool["validation"].mean()),
            "best on labels": float(pool["ceiling"].mean()),
        },
    )


def population_panels(config: Config, models: Arrays) -> list[Panel]:
    """Gold by the rank of accuracy, and by the number of pairs."""
    order = np.argsort(models["accuracy"], axis=1)
    count = order.shape[1]
    by_rank = {
        f"KL {kl:g}": band(
            np.arange(1, count + 1),
            np.take_along_axis(models["gold"][:, i], order, axis=1),
            centre="mean",
            spread="t",
            units="worlds",
        )
        for i, kl in enumerate(config.budgets)
    }
    clean = models["flip"] == 0
    by_size = {}
    for name, seen in (("length seen", 1.0), ("length-blind", 0.0)):
        which = clean & (models["visible"] == seen)
        by_size[name] = band(
            models["size"][which],
            models["gold"][:, 1][:, which],
            centre="mean",
            spread="t",
            units="worlds",
        )
    return [
        Panel("", f"rank of held-out accuracy (best: {count})", "gold score", by_rank),
        Panel("", "labelled pairs", f"gold score at KL {config.budgets[1]:g}", by_size, log_x=True),
    ]


def gradient_panels(curves: Arrays) -> list[Panel]:
    """Kinds of tables as rows, measures as columns."""
    names = {name: name for name in LEARNERS} | {"gold": "GRPO on gold"}
    items = []
    for kind in KINDS:
        optimum = {x: curves[f"{kind}/optimum/{x}"] for x in ("kl", *SHOWN)}
        for measure, label in SHOWN.items():
            line = Series(optimum["kl"].mean(0), optimum[measure].mean(0))
            items.append(
                Panel(
                    kind,
                    NATS,
                    label,
                    {
                        shown: curve(
                            curves[f"{kind}/{name}/kl"], curves[f"{kind}/{name}/{measure}"]
                        )
                        for name, shown in names.items()
                    },
                    bounds={"highest score at this KL": line} if measure == "score" else {},
                    guides={} if measure == "score" else {"exact optima": line},
                )
            )
    return items
