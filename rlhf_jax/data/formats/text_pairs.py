"""Pairs of texts: with a prompt, as two whole dialogues (hh-rlhf), or six labels (QA-feedback)."""

from bisect import bisect_left
from itertools import combinations

from rlhf_jax.data.fields import BadRow, Fields, field_of, filled_field, text_field
from rlhf_jax.data.formats.prompts import Parsed
from rlhf_jax.data.records import ASSISTANT, Pair, Record

PREDICTIONS = tuple(f"prediction {i}" for i in range(1, 5))


def text_pair(pair: Pair) -> Parsed:
    """The pair, or its parts if the answers are whole dialogues "Human: ... Assistant: ..."."""
    answers = (pair.chosen, pair.rejected)
    if not all(text.lstrip().startswith("Human:") and ASSISTANT in text for text in answers):
        return Parsed([pair])
    if pair.prompt.rstrip().endswith(ASSISTANT.strip()) and repeats_prompt(pair):
        return Parsed([without_prompt(pair)], removed=1)
    whole = parted(pair)
    if pair.prompt.strip() not in whole.prompt:
        raise BadRow(
            "chosen and rejected are whole dialogues, but their common beginning does not contain "
            "the prompt; correct the prompt or remove the field from every row"
        )
    return Parsed([whole], removed=1)


def parted(pair: Pair) -> Pair:
    """Both dialogues split after the last "Assistant:" of their common prefix."""
    shared = pair.chosen[: _shared_length(pair.chosen, pair.rejected)]
    cut = shared.rfind(ASSISTANT)
    if cut < 0:
        raise BadRow(
            'chosen and rejected share no prefix up to an "\\n\\nAssistant:" turn; give two '
            "answers to one dialogue, or rows with a prompt field"
        )
    if not shared[:cut].strip():
        raise BadRow("the dialogue has no turn before the answer; remove the row")
    cut += len(ASSISTANT)
    return pair._replace(
        prompt=pair.chosen[:cut], chosen=pair.chosen[cut:], rejected=pair.rejected[cut:]
    )


def repeats_prompt(pair: Pair) -> bool:
    """Whether both answers begin with the prompt."""
    prompt = pair.prompt.strip()
    return all(answer.lstrip().startswith(prompt) for answer in (pair.chosen, pair.rejected))


def without_prompt(pair: Pair) -> Pair:
    """The pair, its answers without the prompt that they begin with."""
    prompt = pair.prompt.strip()
    chosen, rejected = (text.lstrip()[len(prompt) :] for text in (pair.chosen, pair.rejected))
    return pair._replace(chosen=chosen, rejected=rejected)


def qa_row(fields: Fields) -> Parsed:
    """QA-feedback: up to six pairs, and the number of ties."""
    prompt = qa_prompt(fields)
    predictions = [text_field(fields, name) for name in PREDICTIONS]
    labels = field_of(fields, "preference", list)
    orders = list(combinations(predictions, 2))
    if len(labels) != len(orders) or any(type(x) is not int or x not in (0, 1, 2) for x in labels):
        raise BadRow("field preference: expected six labels out of 0, 1, 2; correct the row")
    pairs: list[Record] = [
        Pair(prompt, first, second) if label == 1 else Pair(prompt, second, first)
        for (first, second), label in zip(orders, labels, strict=True)
        if label
    ]
    return Parsed(pairs, ties=labels.count(0))


def qa_prompt(fields: Fields) -> str:
    """Passages first and the question last, because a prompt that is too long keeps its end."""
    passages = field_of(fields, "passages", list)
    blocks = []
    for passage in passages:
        if not isinstance(passage, list) or not all(isinstance(part, str) for part in passage):
            raise BadRow("field passages: expected lists of texts (title, sentences); correct it")
        blocks.append("\n".join(part.strip() for part in passage))
    question = filled_field(fields, "question").strip()
    return "\n\n".join([*blocks, f"Question: {question}", "Answer:\n"])


def _shared_length(a: str, b: str) -> int:
    """Length of the longest common prefix."""
    return bisect_left(range(1, min(len(a), len(b)) + 1), True, key=lambda n: a[:n] != b[:n])
