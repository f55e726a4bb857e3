"""Records that teach nothing are dropped and counted by reason; contradictions are kept.

| record | dropped | kept and counted |
|---|---|---|
| pair | blank answer, equal answers, tie | a pair of one user reversed; chosen scored lower |
| answer, labelled, marked | blank answer | the same answer with both labels |
| ranking | blank answers; fewer than two left; all scores equal | |
| steps | no steps, a blank step | |

Blank and equal mean after stripping spaces. A blank prompt is an error, not a record to drop.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from rlhf_jax.data.formats.text_pairs import repeats_prompt, without_prompt
from rlhf_jax.data.messages import is_blank
from rlhf_jax.data.records import Answer, Labelled, Marked, Pair, Ranking, Record, Steps, Text


def cleaned(record: Record, counts: Counter[str]) -> Record | None:
    """The record, or None if it teaches nothing; the reason is counted."""
    reason = None
    if isinstance(record, Ranking):
        record = _worded(record, counts)
        reason = _ranking_fault(record)
    elif isinstance(record, Pair):
        if is_blank(record.chosen) or is_blank(record.rejected):
            reason = "blank answers"
        elif equal_texts(record.chosen, record.rejected):
            reason = "equal answers"
        elif record.margin is not None and record.margin < 0:
            counts["chosen scored lower, kept"] += 1
    elif isinstance(record, Answer | Labelled | Marked) and is_blank(record.answer):
        reason = "blank answers"
    elif isinstance(record, Steps) and not all(step.strip() for step in record.steps or ("",)):
        reason = "blank steps"
    if reason is None:
        return record
    counts[reason] += 1
    return None


def equal_texts(first: Text, second: Text) -> bool:
    """Whether two texts, or two lists of messages, are equal up to spaces at their ends."""
    return text_key(first) == text_key(second)


def text_key(text: Text) -> str:
    """A text that is equal for texts that are equal up to spaces at their ends."""
    if isinstance(text, str):
        return text.strip()
    stripped = [message | {"content": message["content"].strip()} for message in text]
    return json.dumps(stripped, sort_keys=True)


def contradicted(records: Iterable[Any]) -> int:
    """Number of pairs that also occur the other way round, or of answers with both labels."""
    present, keys = set(), []
    for record in records:
        if isinstance(record, Pair):
            prompt, *sides = map(text_key, record[:3])
            keys.append((prompt, *reversed(sides), record.user))
            present.add((prompt, *sides, record.user))
        elif isinstance(record, Labelled):
            about = (text_key(record.prompt), text_key(record.answer), record.principle)
            keys.append((*about, not record.label))
            present.add((*about, record.label))
    return sum(key in present for key in keys)


def without_prompts(records: list[Any]) -> tuple[list[Any], int]:
    """The records, without the prompt in the answers if most repeat it; and how many changed."""
    repeated = sum(map(repeats, records))
    if 2 * repeated <= len(records):
        return records, 0
    return [without_prompt(x) if repeats(x) else x for x in records], repeated


def repeats(record: Record) -> bool:
    """Whether this is a pair of texts in which both answers begin with the prompt."""
    texts = isinstance(record, Pair) and all(isinstance(text, str) for text in record[:3])
    return texts and repeats_prompt(record)


def _worded(record: Ranking, counts: Counter[str]) -> Ranking:
    """The ranking without blank answers."""
    kept = [i for i, answer in enumerate(record.answers) if not is_blank(answer)]
    counts["blank answers"] += len(record.answers) - len(kept)
    answers = tuple(record.answers[i] for i in kept)
    return Ranking(record.prompt, answers, tuple(record.scores[i] for i in kept))


def _ranking_fault(record: Ranking) -> str | None:
    if len(record.answers) < 2:
        return "rankings of one answer"
    return "ties" if len(set(record.scores)) == 1 else None
