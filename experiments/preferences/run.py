"""Cross-validation on a file of human preferences: SFT, reward model and DPO beside baselines."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from experiments.preferences import evaluate, report
from experiments.preferences.config import Config
from experiments.preferences.data import Source, read_source
from experiments.preferences.fold import most_rows, one_fold
from experiments.preferences.tools import make_tools
from rlhf_jax.recipes.ngram_reward import make_ngram_fit
from rlhf_jax.reports.claims import Claim, Outcome, write_text
from rlhf_jax.training import ResultsError, Run, read_metrics, run_stage

LEADS = (
    ("reward", "ngrams"),
    ("reward", "ngrams_cut"),
    ("reward", "ngrams_quarter"),
    ("reward", "length_rule"),
    ("ngrams_cut", "ngrams"),
    ("dpo", "reward"),
    ("dpo", "ngrams"),
)


def run(config: Config, job: Run) -> Outcome:
    """Fold after fold, then the held-out numbers of all folds are put together."""
    source = read_source(config)
    check_same_file(job, source, config)
    work = partial(
        one_fold,
        job,
        source=source,
        tools=make_tools(config, most_rows(source)),
        ngrams=make_ngram_fit(config.ngrams),
        config=config,
    )
    folds, answers = [], []
    for number in range(config.folds):
        done = work(number)
        folds.append(done.arrays)
        answers += done.info["answers"]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in answers]
    write_text(job.out / "answers.jsonl", "".join(lines))

    measured = evaluate.preferences_measured(folds, source.groups)
    perplexity = evaluate.perplexities(folds)
    sampled = evaluate.answers_measured(folds)
    leads = {
        f"{one}_minus_{other}": evaluate.accuracy_lead(folds, source.groups, one, other)
        for one, other in LEADS
    }
    claims = make_claims(
        measured, leads, f"{len(source.pairs)} held-out pairs, {config.folds} folds"
    )
    table, counts = report.preference_table(measured, source), report.data_counts(source, folds)
    report.write_report(
        job.out,
        config=config,
        source=source,
        claims=claims,
        tables=(table, report.language_table(perplexity, sampled)),
        figures=report.figures(measured, folds, read_metrics(job.out)),
        lead=report.verdict(leads["reward_minus_ngrams"], len(source.pairs)),
        counts=counts,
    )
    numbers = {
        "preferences": measured,
        "perplexity": perplexity,
        "sampled": sampled,
        **leads,
        "data": {**counts, "fields": source.file.fields._asdict()},
    }
    return Outcome(claims, numbers, table)


def make_claims(measured: Mapping[str, Any], leads: Mapping[str, Any], size: str) -> list[Claim]:
    """Better than a coin, better than a rule about lengths, DPO no worse than the reward model.

    The wider of the intervals over folds and over dialogues counts.
    """

    def claim(statement: str, found: Mapping[str, Any], *asked: Any, **about: Any) -> Claim:
        mean, low, high = found["widest"]
        return Claim(f"{statement}, {size}", mean, *asked, interval=(low, high), **about)

    means = {name: found["accuracy"]["mean"] for name, found in measured.items()}
    return [
        claim(
            "reward model: accuracy",
            measured["reward model"]["accuracy"],
            ">",
            0.5,
            kind="ours",
            source="a coin; the wider interval of folds and dialogues",
        ),
        claim(
            "reward model: accuracy minus that of the better rule about lengths",
            leads["reward_minus_length_rule"],
            ">",
            0.0,
            kind="ours",
            source="a reward model must say more than which answer is shorter, or longer",
            baseline=("a coin minus the rule", 0.5 - means["length rule"]),
        ),
        claim(
            "DPO, implicit reward: accuracy minus that of the reward model",
            leads["dpo_minus_reward"],
            ">=",
            0.0,
            kind="paper",
            source="DPO, Section 5.1: beta log pi / pi_ref is a reward of the same class",
            baseline=("the rule about lengths", means["length rule"] - means["reward model"]),
        ),
    ]


def check_same_file(job: Run, source: Source, config: Config) -> None:
    """Raises ResultsError if the file has changed since the folder's run began."""
    facts = {"sha256": source.digest}
    begun = run_stage(job, "data", lambda stage: ({"pairs": np.array(len(source.pairs))}, facts))
    if begun.info != facts:
        raise ResultsError(
            f"{config.data} is not the file that {job.out} was begun with: restore it, choose "
            "another --out or delete the folder"
        )
