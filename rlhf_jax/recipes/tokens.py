"""Texts and dialogues of records as token ids.

Prompt and answer of a record are texts, or both lists of messages that the lab's chat template
writes. Of an answer in messages every turn of the assistant counts, and turns between are read; a
text that answers a prompt in messages is one message of the assistant's. A record {"messages"} is
all answer.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlhf_jax.data.chat import encode_dialogue, encode_prompt
from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.data.tokenizer import encode_completions, encode_prompts
from rlhf_jax.training import UserError
from rlhf_jax.types import Vocabulary


class Case(NamedTuple):
    """A prompt and an answer to it, texts or messages, and JSON schemas of tools or None."""

    prompt: Any
    answer: Any
    tools: Any = None


class TokenRow(NamedTuple):
    """Ids of a prompt, and from the first token that counts on, which of them count."""

    prompt: list[int]
    answer: list[int]
    counted: list[bool]


def flat_answers(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of one "answer" each from records of "answers", those of a list side by side."""
    return [{**row, "answer": answer} for row in rows for answer in row["answers"]]


def side_case(record: Mapping[str, Any], side: str) -> Case:
    """This field of a record as the answer to its prompt.

    Raises:
      UserError: the record has no such field.
    """
    tools = record.get("tools") or None
    if side == "answer" and "messages" in record:
        return Case((), record["messages"], tools)
    if "prompt_json" in record:
        record = {**record, "prompt": json.loads(record["prompt_json"])}
    if missing := [field for field in ("prompt", side) if field not in record]:
        raise UserError(f"a record has no field {missing[0]!r}; its fields are {sorted(record)}")
    return Case(record["prompt"], record[side], tools)


def answer_text(answer: Any) -> str:
    """A text as it is, or the contents of messages, one a line."""
    if isinstance(answer, str):
        return answer
    return "\n".join(str(turn.get("content") or "") for turn in answer)


def text_prompt(prompt: Any) -> dict[str, str]:
    """A prompt as a field of a record of texts, which `side_case` reads."""
    return {"prompt": prompt} if isinstance(prompt, str) else {"prompt_json": json.dumps(prompt)}


def prompt_tokens(
    vocabulary: Vocabulary, chat: ChatTemplate | None, prompts: Sequence[Any]
) -> list[list[int]]:
    """Ids of prompts, to be answered.

    Raises:
      ValueError: a prompt that cannot be read.
    """
    if all(isinstance(prompt, str) for prompt in prompts):
        return encode_prompts(vocabulary, prompts)
    rows = []
    for prompt in prompts:
        if isinstance(prompt, str):
            rows += encode_prompts(vocabulary, [prompt])
        else:
            rows.append(encode_prompt(vocabulary, _template(chat, prompt), list(prompt)))
    return rows


def token_rows(
    vocabulary: Vocabulary, chat: ChatTemplate | None, cases: Sequence[Case]
) -> list[TokenRow]:
    """Prompts with their answers.

    Raises:
      ValueError: a prompt or an answer that cannot be read, or without a token that counts.
    """
    if all(isinstance(text, str) for case in cases for text in (case.prompt, case.answer)):
        prompts = encode_prompts(vocabulary, [case.prompt for case in cases])
        answers = encode_completions(vocabulary, [case.answer for case in cases])
        pairs = zip(prompts, answers, strict=True)
        return [TokenRow(prompt, answer, [True] * len(answer)) for prompt, answer in pairs]
    return [_token_row(vocabulary, chat, case) for case in cases]


def _token_row(vocabulary: Vocabulary, chat: ChatTemplate | None, case: Case) -> TokenRow:
    prompt, answer, tools = case
    if isinstance(prompt, str):
        if not isinstance(answer, str):
            raise ValueError(f"the prompt is a text and the answer {answer!r:.60}")
        return token_rows(vocabulary, chat, [case])[0]
    if isinstance(answer, str):
        answer = [{"role": "assistant", "content": answer}]
    template = _template(chat, prompt, answer)
    messages = [*prompt, *answer]
    row = encode_dialogue(vocabulary, template, messages, tools=tools, after=len(prompt))
    first = row.counted.index(True)
    return TokenRow(row.ids[:first], row.ids[first:], row.counted[first:])


def _template(chat: ChatTemplate | None, *parts: Any) -> ChatTemplate:
    """The lab's template, which reads only lists."""
    for part in parts:
        if not isinstance(part, list | tuple):
            raise ValueError(f"expected a text or a list of messages, got {part!r:.60}")
    if chat is None:
        raise ValueError("messages need a chat template: make_lab(..., chat=template)")
    return chat
