"""rlhf principles: labelled answers from comments in free text."""

import json
from dataclasses import dataclass
from pathlib import Path

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.judging import LONGEST
from rlhf_jax.cli.options import Model
from rlhf_jax.cli.session import new_file, open_model, vocabulary_of
from rlhf_jax.data.formats import read_rows
from rlhf_jax.data.principles import ExtractPrinciples
from rlhf_jax.recipes import chat_extractor, feedback_records, language_extractor, make_lab
from rlhf_jax.recipes.extraction import counts_line
from rlhf_jax.rewards import chat_model
from rlhf_jax.training import UserError, reading_input


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Answers with a principle and a label, from people's comments, for `rlhf reward --kind
    principles` and `entailment`.

    A language model names what a comment says; the words that it quotes must stand in the comment,
    and the other annotators of the answer must name the principle too.
    """

    data: Path
    """Rows of a prompt, an answer and comments, a list of texts, one of each annotator."""
    extractor: str
    """Who reads the comments: http://ADDRESS/v1#MODEL, or the folder of a language model."""
    annotators: int | None = None
    """How many of an answer must name a principle; all of them by default."""
    out: Path
    """File for the rows, JSON lines."""

    def __post_init__(self) -> None:
        if self.annotators is not None:
            check_fields(self, "[1, inf)", "annotators")


def principles(command: str, options: Extraction) -> None:
    """Extracts, prints the counts of each step, and writes the rows."""
    new_file(options.out)
    with reading_input():
        rows = read_rows(options.data, kind="prompts").records
        extract = _extractor(options.extractor)
        found = feedback_records(
            [{**row.fields, "prompt": row.prompt} for row in rows],
            extract,
            annotators=options.annotators,
        )
    print(f"{options.data}: {len(rows)} answers. {counts_line(found.counts)}")
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in found.records)
    options.out.write_text("".join(lines), encoding="utf-8")
    print(f"{options.out}: {len(found.records)} rows")


def _extractor(spec: str) -> ExtractPrinciples:
    """The extractor of an address or of a folder.

    Raises:
      UserError: it is neither.
    """
    if spec.partition(":")[0] in ("http", "https"):
        return chat_extractor(chat_model(spec))
    if not Path(spec).is_dir():
        raise UserError(
            f"--extractor {spec}: expected http://ADDRESS/v1#MODEL or the folder of a language "
            "model"
        )
    base = open_model(Model(model=Path(spec), prompt_length=LONGEST, answer_length=LONGEST))
    lab = make_lab(
        base.config,
        vocabulary_of(base),
        prompt_length=LONGEST,
        answer_length=LONGEST,
        chat=base.chat,
    )
    return language_extractor(lab, base.params)
