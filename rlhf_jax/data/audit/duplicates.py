"""Records that are there twice, that contradict one another, or that are in two files."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from rlhf_jax.data.audit.findings import EXAMPLES, Finding, once
from rlhf_jax.data.audit.minhash import near_pairs
from rlhf_jax.data.audit.rows import (
    AuditFile,
    JudgedPair,
    answers_of,
    label_of,
    prompt_groups,
    spaced,
)
from rlhf_jax.data.formats.cleaning import text_key
from rlhf_jax.data.records import Labelled, Record, Steps


def exact_duplicates(file: AuditFile) -> Finding:
    """Records equal to an earlier one, up to spaces at the ends of their texts."""
    first, places, examples = _first_of_each(file), [], []
    for number, (place, _) in enumerate(file.entries):
        if first[number] != number:
            places.append(place)
            examples.append(f"row {place} is row {file.entries[first[number]].place} again")
    return Finding(
        "exact duplicates",
        len(places),
        len(file.entries),
        places=once(places),
        examples=tuple(examples[:EXAMPLES]),
    )


def near_duplicates(file: AuditFile, *, similarity: float) -> Finding:
    """Records that an earlier one is near in its prompt and in each of its answers.

    Near: Jaccard similarity of the sets of three words in a row, in small letters. Exact duplicates
    are not counted again.
    """
    first = _first_of_each(file)
    kept = [number for number in range(len(file.entries)) if first[number] == number]
    rows = [_texts(file.entries[number].record) for number in kept]
    pairs = near_pairs(rows, similarity) if len(rows) > 1 else []
    groups = _components(pairs, len(rows))
    _, leaders = np.unique(groups, return_index=True)
    later = [i for i in range(len(rows)) if leaders[groups[i]] != i]
    name = {i: file.entries[kept[i]].place for i in range(len(rows))}
    examples = [f"row {name[i]} is near row {name[int(leaders[groups[i]])]}" for i in later]
    return Finding(
        "near duplicates",
        len(later),
        len(file.entries),
        places=once(name[i] for i in later),
        examples=tuple(examples[:EXAMPLES]),
    )


def contradictions(file: AuditFile, pairs: Sequence[JudgedPair]) -> Finding:
    """Judgements that another one contradicts: A over B and B over A, or two labels of one answer.

    Both sides are counted.
    """
    said: dict[Any, set[Any]] = defaultdict(set)
    judgements = _judgements(file, pairs)
    for _, content, judgement in judgements:
        said[content].add(judgement)
    places = [place for place, content, _ in judgements if len(said[content]) > 1]
    return Finding(
        "contradictions",
        len(places),
        len(judgements),
        "judgements",
        places=once(places),
        inapplicable="" if judgements else f"{file.kind} without judgements",
    )


def leaked_prompts(file: AuditFile, other: AuditFile, *, similarity: float) -> list[Finding]:
    """Records of the other file whose prompt is in this one: the same, and near the same.

    The same: up to small letters and spaces. Near: as in `near_duplicates`.
    """
    asked = [[spaced(entry.record.prompt) for entry in each.entries] for each in (file, other)]
    total = sum(map(bool, asked[1]))
    where = {prompt: entry.place for prompt, entry in zip(asked[0], file.entries, strict=True)}
    where.pop("", None)
    here = list(where)
    there = list(dict.fromkeys(prompt for prompt in asked[1] if prompt and prompt not in where))
    both = [(prompt,) for prompt in [*here, *there]]
    near = {
        there[j - len(here)]: where[here[i]]
        for i, j in (near_pairs(both, similarity) if there and here else [])
        if i < len(here) <= j
    }
    why = "" if total and here else "records without prompts"
    return [
        _leak(name, other, asked[1], known, total, why)
        for name, known in (("leaked prompts", where), ("near-leaked prompts", near))
    ]


def _leak(
    name: str, other: AuditFile, prompts: list[str], known: dict[str, str], total: int, why: str
) -> Finding:
    """Records of the other file with one of the known prompts."""
    found = [
        (entry.place, known[prompt])
        for entry, prompt in zip(other.entries, prompts, strict=True)
        if prompt in known
    ]
    label = other.path.name
    examples = [f"row {place} of {label}: prompt of row {first}" for place, first in found]
    return Finding(
        f"{name}, {label}",
        len(found),
        total,
        places=once(place for place, _ in found),
        examples=tuple(dict.fromkeys(examples))[:EXAMPLES],
        inapplicable=why,
    )


def _first_of_each(file: AuditFile) -> list[int]:
    """For each record, the number of the first one equal to it."""
    first: dict[int, int] = {}
    return [
        first.setdefault(_key(entry.record), number) for number, entry in enumerate(file.entries)
    ]


def _key(record: Record) -> int:
    """A 64-bit hash of all that a record says; texts themselves would fill the memory."""
    answers = tuple(map(text_key, answers_of(record)))
    return hash((text_key(record.prompt), answers, label_of(record)))


def _texts(record: Record) -> tuple[str, ...]:
    """The prompt and the answers, to be compared."""
    return (spaced(record.prompt), *map(spaced, answers_of(record)))


def _components(pairs: Sequence[tuple[int, int]], size: int) -> np.ndarray:
    """The component of each of `size` nodes."""
    ends = np.array(pairs, int).reshape(-1, 2).T
    graph = csr_array((np.ones(len(pairs)), (ends[0], ends[1])), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def _judgements(
    file: AuditFile, pairs: Sequence[JudgedPair]
) -> list[tuple[str, tuple[Any, ...], Any]]:
    """(place, what is judged, the judgement) of pairs, labelled answers and steps."""
    found: list[tuple[str, tuple[Any, ...], Any]] = []
    groups = prompt_groups([judged.pair.prompt for judged in pairs])
    for judged, group in zip(pairs, groups, strict=True):
        sides = [hash(text_key(text)) for text in (judged.pair.chosen, judged.pair.rejected)]
        found.append((judged.place, (group, *sorted(sides)), sides[0]))
    for place, record in file.entries:
        if isinstance(record, Labelled | Steps):
            content = (text_key(record.prompt), *map(text_key, answers_of(record)))
            found.append((place, (hash(content),), label_of(record)))
    return found
