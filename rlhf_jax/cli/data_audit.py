"""rlhf data audit: what may be wrong with a file, measured and held against limits."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro
from rich.console import Console

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.data_head import File, answer_sizes, noted, open_audit
from rlhf_jax.cli.options import Model
from rlhf_jax.cli.session import open_model, vocabulary_of
from rlhf_jax.data.audit import AuditFile, Finding, answers, texts
from rlhf_jax.data.audit.cycles import intransitive_triples
from rlhf_jax.data.audit.duplicates import (
    contradictions,
    exact_duplicates,
    leaked_prompts,
    near_duplicates,
)
from rlhf_jax.data.audit.rows import JudgedPair, judged_pairs
from rlhf_jax.recipes import make_lab
from rlhf_jax.recipes.label_noise import LabelNoise, label_noise
from rlhf_jax.recipes.pair_coverage import (
    PairStates,
    pair_features,
    thin_coverage,
    vacuous_guarantee,
)
from rlhf_jax.recipes.vectors import pair_vectors
from rlhf_jax.reports.claims import Table, print_table, write_text
from rlhf_jax.reports.intervals import grouped_mean_interval
from rlhf_jax.training import UserError

Others = Annotated[
    tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[OTHER ...]", name="others")
]
Word = Literal["ok", "over", "unsure", "not checked"]
STATE_TOKENS, STATE_ROWS = 512, 16  # of a text, and pairs at a time
MARKS = {"ok": "✓", "over": "✗", "unsure": "?"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Allowed: largest shares; a finding above its own is "over", and --strict fails."""

    allow_unreadable_rows: float = 0.0
    """Rows with wrong fields, or no JSON; training stops at the first."""
    allow_exact_duplicates: float = 0.01
    """Records equal to an earlier one."""
    allow_near_duplicates: float = 0.05
    """Records with prompt and answers nearly those of an earlier one."""
    allow_contradictions: float = 0.0
    """A over B and B over A, or one answer with two labels."""
    allow_chosen_scored_lower: float = 0.0
    """Pairs in which the chosen answer has the lower score."""
    allow_ties: float = 0.5
    """Judgements without a winner, which training drops."""
    allow_empty_answers: float = 0.01
    """Records with a blank answer, which training drops."""
    allow_overlong_answers: float = 0.01
    """Records with an answer above --max-tokens."""
    allow_no_supervised_token: float = 0.0
    """Records without a token to learn; checked with --model."""
    allow_longer_wins: float = 0.65
    """Accuracy of choosing the longer answer, or the shorter one."""
    allow_wrong_labels: float = 0.25
    """Estimated share of labels that are wrong."""
    allow_intransitive_triples: float = 0.05
    """A over B over C over A, of triples with all three judgements."""
    allow_thin_coverage: float = 0.2
    """Pairs that differ in words of which the other pairs say less than they would themselves."""
    allow_vacuous_guarantee: float = 1.0
    """Pairs for which what an offline method can promise is worth nothing; a note says so."""
    allow_template_drift: float = 0.0
    """Records with a prompt of another shape than most."""
    allow_stray_markers: float = 0.0
    """Records with markers of a chat template in their texts, such as <|im_start|>."""
    allow_personal_data: float = 0.01
    """Records with what looks like an e-mail, phone, card or IP address."""
    allow_encoding_faults: float = 0.01
    """Records with characters left behind by a conversion."""
    allow_other_scripts: float = 0.05
    """Records with an answer in another script than its prompt."""
    allow_leaked_prompts: float = 0.0
    """Records of another split with a prompt of FILE."""
    allow_near_leaked_prompts: float = 0.01
    """Records of another split with nearly a prompt of FILE."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, 1]", *asdict(self))


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What may be wrong with a file, in a table, JSON or a page; texts are only in the page."""

    file: File
    """JSON lines, an array, gz, zst, Parquet, Arrow or a folder."""
    others: Others = ()
    """Other splits, whose prompts should not be in FILE."""
    model: Path | None = None
    """Folder of a model: lengths are in tokens, and rows without a token to learn are found."""
    states: bool = False
    """Coverage by the last hidden states of --model, which reads all texts, in place of words."""
    max_tokens: int = 1024
    """Longest answer, in tokens with --model and in words without."""
    similarity: float = 0.8
    """Of near duplicates: Jaccard similarity of their sets of three words in a row."""
    noise_rows: int = 10_000
    """Judgements that the estimates of wrong labels and coverage read, drawn from all."""
    noise_accuracy: float = 0.7
    """Accuracy of the model of n-grams below which its estimate is only shown."""
    limits: Limits = field(default=Limits())
    json: Path | None = None
    """A JSON file for all numbers, with the numbers of all rows."""
    html: Path | None = None
    """A page that explains each finding and shows suspicious rows."""
    strict: bool = False
    """Exit code 1 if a finding is over its limit."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "max_tokens", "noise_rows")
        check_fields(self, "[0, 1]", "similarity", "noise_accuracy")
        if self.states and self.model is None:
            raise ValueError("--states are those of --model: give its folder")


class OverLimit(UserError):
    """A finding is over its limit."""

    exit_code = 1


class Verdict(NamedTuple):
    """A finding against its limit.

    interval: 95%, of a share that is an estimate. reason: why the verdict is unsure.
    """

    finding: Finding
    allowed: float
    word: Word
    interval: tuple[float, float] | None = None
    reason: str = ""


def audit(command: str, options: Audit) -> None:
    """Checks, prints and writes."""
    for path in (options.json, options.html):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"{path}: no folder {path.parent}; make it first")
    file = open_audit(options.file)
    print(noted(file))
    others = [open_audit(path) for path in options.others]
    with Console(stderr=True).status(f"checking {len(file.entries)} records"):
        found, noise = checked(file, others, options)
    verdicts = [judged(finding, noise, options) for finding in found]
    print_table(findings_table(verdicts))
    for finding in found:
        if finding.name == "vacuous guarantee" and finding.examples:
            print(*finding.examples)
    if options.json is not None:
        numbers = json.dumps(as_json(file, verdicts, noise, options), indent=1)
        write_text(options.json, numbers + "\n")
    if options.html is not None:
        from rlhf_jax.cli.audit_page import audit_page

        write_text(options.html, audit_page(file, verdicts, noise))
    over = [f"{x.finding.name} ({_share(x)})" for x in verdicts if x.word == "over"]
    if over and options.strict:
        raise OverLimit(f"{options.file}: over the limit: {', '.join(over)}")


def checked(
    file: AuditFile, others: Sequence[AuditFile], options: Audit
) -> tuple[list[Finding], LabelNoise]:
    """Every finding, and what the estimate of wrong labels rests on."""
    pairs = judged_pairs(file)
    sizes, unit, faults = answer_sizes(options.model, file)
    noise = label_noise(file, pairs, most=options.noise_rows)
    states = None if options.model is None or not options.states else states_of(options.model)
    features = pair_features(file.kind, pairs, most=options.noise_rows, states=states)
    unsupervised = answers.unsupervised_rows(file, faults or [])
    if faults is None:
        unsupervised = unsupervised._replace(inapplicable="needs --model")
    found = [
        answers.unreadable_rows(file),
        exact_duplicates(file),
        near_duplicates(file, similarity=options.similarity),
        contradictions(file, pairs),
        answers.lower_scored(file),
        answers.ties(file),
        answers.empty_answers(file),
        answers.overlong_answers(file, sizes, most=options.max_tokens, unit=unit),
        unsupervised,
        answers.length_bias(pairs, sizes, file.kind),
        noise.finding,
        intransitive_triples(pairs, file.kind),
        thin_coverage(features),
        vacuous_guarantee(features),
        texts.template_drift(file),
        texts.stray_markers(file),
        texts.personal_strings(file),
        texts.encoding_faults(file),
        texts.foreign_scripts(file),
    ]
    for other in others:
        found += leaked_prompts(file, other, similarity=options.similarity)
    if not others:
        found += [
            Finding(name, inapplicable="needs another file")
            for name in ("leaked prompts", "near-leaked prompts")
        ]
    return found, noise


def states_of(folder: Path) -> PairStates:
    """Last hidden states of a model that reads prompts and answers of at most STATE_TOKENS each."""
    base = open_model(Model(model=folder))
    lab = make_lab(
        base.config,
        vocabulary_of(base),
        prompt_length=STATE_TOKENS,
        answer_length=STATE_TOKENS,
        long_prompts="truncate_left",
        long_answers="truncate_right",
        chat=base.chat,
    )

    def states(pairs: Sequence[JudgedPair]) -> np.ndarray:
        rows = [x.pair for x in pairs]
        records = [
            {"prompt": x.prompt, "chosen": x.chosen, "rejected": x.rejected, "tools": x.tools}
            for x in rows
        ]
        return pair_vectors(lab, base.params, records, batch_size=STATE_ROWS)

    return states


def judged(finding: Finding, noise: LabelNoise, options: Audit) -> Verdict:
    """The finding against the limit of its name; an estimate is over if its whole interval is."""
    name = finding.name.partition(",")[0].replace(" ", "_").replace("-", "_")
    allowed = getattr(options.limits, f"allow_{name}")
    if finding.inapplicable:
        return Verdict(finding, allowed, "not checked")
    if finding.sample is None:
        return Verdict(finding, allowed, "over" if finding.share > allowed else "ok")
    low, high = np.clip(grouped_mean_interval(*finding.sample), 0.0, 1.0).tolist()
    least = 1 - allowed if finding.name == "longer wins" else 0.0  # the shorter may win as well
    if finding is noise.finding and noise.right is not None:
        accuracy = noise.right.hits.mean()
        if accuracy < options.noise_accuracy:
            reason = f"the model of n-grams is right on {accuracy:.1%}, below --noise-accuracy"
            return Verdict(finding, allowed, "unsure", (low, high), reason)
    if low > allowed or high < least:
        return Verdict(finding, allowed, "over", (low, high))
    if least <= low and high <= allowed:
        return Verdict(finding, allowed, "ok", (low, high))
    return Verdict(finding, allowed, "unsure", (low, high), "the limit is within the interval")


def findings_table(verdicts: Sequence[Verdict]) -> Table:
    """One row for each check that was made; those that were not are in the note."""
    rows = [
        (
            x.finding.name,
            f"{x.finding.count} of {x.finding.total} {x.finding.unit}",
            _share(x),
            f"{100 * x.allowed:.4g}%",
            f"{MARKS[x.word]} {x.word}",
            first_places(x.finding, 3),
        )
        for x in verdicts
        if x.word != "not checked"
    ]
    skipped = [
        f"{x.finding.name} ({x.finding.inapplicable})" for x in verdicts if x.word == "not checked"
    ]
    unsure = [f"{x.finding.name} ({x.reason})" for x in verdicts if x.reason]
    notes = [
        f"{what}: {', '.join(names)}"
        for what, names in (("unsure", unsure), ("not checked", skipped))
        if names
    ]
    headers = ("check", "found", "share [95%]", "allowed", "verdict", "rows")
    return Table("", headers, rows, "; ".join(notes))


def first_places(finding: Finding, most: int) -> str:
    """The first rows of a finding, and how many more."""
    more = len(finding.places) - most
    return ", ".join(finding.places[:most]) + (f" and {more} more" if more > 0 else "")


def as_json(
    file: AuditFile, verdicts: Sequence[Verdict], noise: LabelNoise, options: Audit
) -> Mapping[str, Any]:
    """All numbers and row numbers; no text of the file."""
    return {
        "file": str(file.path),
        "format": file.format,
        "kind": file.kind,
        "rows": file.rows,
        "records": len(file.entries),
        "options": {
            "model": None if options.model is None else str(options.model),
            "max_tokens": options.max_tokens,
            "similarity": options.similarity,
            "noise_rows": options.noise_rows,
            "noise_accuracy": options.noise_accuracy,
        },
        "findings": [_finding_json(x) for x in verdicts],
        "suspects": [{"row": x.place, "label probability": prob} for x, prob in noise.suspects],
    }


def _finding_json(x: Verdict) -> dict[str, Any]:
    if x.finding.inapplicable:
        return {"name": x.finding.name, "verdict": x.word, "reason": x.finding.inapplicable}
    interval = None if x.interval is None or math.isnan(x.interval[0]) else list(x.interval)
    return {
        "name": x.finding.name,
        "verdict": x.word,
        "count": x.finding.count,
        "total": x.finding.total,
        "unit": x.finding.unit,
        "share": x.finding.share,
        "interval": interval,
        "allowed": x.allowed,
        "details": dict(x.finding.details),
        "rows": list(x.finding.places),
    }


def _share(x: Verdict) -> str:
    """The share, with its interval if it is an estimate."""
    share = f"{100 * x.finding.share:.3g}%"
    if x.interval is None:
        return share
    low, high = (100 * end for end in x.interval)
    return f"{share} [{low:.3g}, {high:.3g}]"
