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
    gain = evaluate.reward_minus_ngrams(folds, source.groups)
    claims = [accuracy_claim(measured["reward model"]["accuracy"], len(source.pairs), config.folds)]
    table, counts = report.preference_table(measured, source), report.data_counts(source, folds)
    report.write_report(
        job.out,
        config=config,
        source=source,
        claims=claims,
        tables=(table, report.language_table(perplexity, sampled)),
        figures=report.figures(measured, folds, read_metrics(job.out)),
        lead=report.verdict(gain, len(source.pairs)),
        counts=counts,
    )
    numbers = {
        "preferences": measured,
        "perplexity": perplexity,
        "sampled": sampled,
        "reward_minus_ngrams": gain,
        "data": {**counts, "fields": source.file.fields._asdict()},
    }
    return Outcome(claims, numbers, table)


def accuracy_claim(accuracy: Mapping[str, Any], pairs: int, folds: int) -> Claim:
    """Better than a coin, by the wider of the two intervals."""
    mean, low, high = accuracy["widest"]
    return Claim(
        f"reward model: accuracy on {pairs} held-out pairs, {folds} folds",
        mean,
        ">",
        0.5,
        kind="ours",
        source="a coin; the wider interval of folds and dialogues",
        interval=(low, high),
    )


def check_same_file(job: Run, source: Source, config: Config) -> None:
    """Raises ResultsError if the file has changed since the folder's run began."""
    facts = {"sha256": source.digest}
    begun = run_stage(job, "data", lambda stage: ({"pairs": np.array(len(source.pairs))}, facts))
    if begun.info != facts:
        raise ResultsError(
            f"{config.data} is not the file that {job.out} was begun with: restore it, choose "
            "another --out or delete the folder"
        )
