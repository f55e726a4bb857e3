"""Dialogues as ids: what counts, token by token, for the templates of the families."""

from dataclasses import replace
from datetime import datetime
from functools import cache

import chat_templates
import pytest
from foreign_tokenizers import byte_level, sentencepiece

from rlhf_jax.data.chat import encode_dialogue, encode_prompt, with_turn_end
from rlhf_jax.data.readers import reader
from rlhf_jax.data.templates import ChatTemplate, render_chat
from rlhf_jax.types import Vocabulary

pytest.importorskip("jinja2")

USER = {"role": "user", "content": "Name a colour."}
RED = {"role": "assistant", "content": "red"}
MORE = {"role": "user", "content": "One more, please!"}
BLUE = {"role": "assistant", "content": "dark blue"}
TWO_TURNS = [USER, RED, MORE, BLUE]
SYSTEM = {"role": "system", "content": "Answer in one word."}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}],
}
RESULT = {"role": "tool", "content": "4"}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"a": "<int>"}}}]

CHATML = ["<|im_start|>", "<|im_end|>", "<|end|>"]
LLAMA3 = ["<|begin|>", "<|start|>", "<|stop|>", "<|turn|>"]
GEMMA = ["<start_of_turn>", "<end_of_turn>"]
MISTRAL = ["[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]"]
ENDS = {"bos_token": "<s>", "eos_token": "</s>"}


@cache
def vocabulary(name: str) -> Vocabulary:
    """The tokenizer that goes with a template."""
    kinds = {
        "LLAMA2": lambda: sentencepiece([], legacy=True),
        "MISTRAL": lambda: sentencepiece(MISTRAL, legacy=False),
        "GEMMA": lambda: sentencepiece(GEMMA, legacy=False),
        "LLAMA3": lambda: byte_level(LLAMA3, bos="<|begin|>"),
    }
    chatml = ("<think>", "</think>", "<tool_call>", "</tool_call>")
    tokenizer = kinds.get(name, lambda: byte_level(CHATML, bos=None, words=chatml))()
    stop = {"LLAMA3": "<|turn|>", "GEMMA": "<end_of_turn>"}.get(name, "<|im_end|>")
    stop_id = tokenizer.token_to_id("</s>" if name in ("LLAMA2", "MISTRAL") else stop)
    return Vocabulary(tokenizer, stop_id, None, (stop_id,))


def template(name: str, **variables) -> ChatTemplate:
    tokens = {"bos_token": "<|begin|>"} if name == "LLAMA3" else ENDS
    source = getattr(chat_templates, name)
    return ChatTemplate({"default": source}, tokens | variables, datetime(2026, 1, 31))


def shown(name: str, messages, after=0, tools=None, **variables) -> str:
    """The tokens of a dialogue as text, with those that count in double brackets."""
    row = encode_dialogue(
        vocabulary(name), template(name, **variables), messages, tools=tools, after=after
    )
    assert len(row.ids) == len(row.counted)
    decode = reader(vocabulary(name).tokenizer).continuing.decode
    text, start = "", 0
    for end in range(1, len(row.ids) + 1):
        if end == len(row.ids) or row.counted[end] != row.counted[start]:
            run = decode(row.ids[start:end], skip_special_tokens=False)
            text += f"⟦{run}⟧" if row.counted[start] else run
            start = end
    return text


EXPECTED = {
    "LLAMA2": "<s> [INST] Name a colour. [/INST]⟦ red </s>⟧<s> [INST] One more, please! [/INST]"
    "⟦ dark blue </s>⟧",
    "LLAMA3": "<|begin|><|start|>system<|stop|>\n\nToday Date: 31 Jan 2026\n\n<|turn|>"
    "<|start|>user<|stop|>\n\nName a colour.<|turn|><|start|>assistant<|stop|>\n\n⟦red<|turn|>⟧"
    "<|start|>user<|stop|>\n\nOne more, please!<|turn|><|start|>assistant<|stop|>\n\n"
    "⟦dark blue<|turn|>⟧",
    "CHATML": "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n⟦red<|im_end|>⟧\n"
    "<|im_start|>user\nOne more, please!<|im_end|>\n<|im_start|>assistant\n⟦dark blue<|im_end|>⟧",
    "GEMMA": "<s><start_of_turn>user\nName a colour.<end_of_turn>\n<start_of_turn>model\n"
    "⟦red<end_of_turn>⟧\n<start_of_turn>user\nOne more, please!<end_of_turn>\n"
    "<start_of_turn>model\n⟦dark blue<end_of_turn>⟧",
    "MISTRAL": "<s>[INST] Name a colour.[/INST]⟦ red</s>⟧[INST] One more, please![/INST]"
    "⟦ dark blue</s>⟧",
}
EXPECTED["TAGGED"] = EXPECTED["CHATML"]
EXPECTED["QWEN25"] = "<|im_start|>system\nYou are helpful.<|im_end|>\n" + EXPECTED["CHATML"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_answers_of_every_turn_count_with_their_ends(name):
    assert shown(name, TWO_TURNS) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_only_the_messages_after_the_prompt_count(name):
    first, _, rest = EXPECTED[name].partition("⟦")
    assert shown(name, TWO_TURNS, after=3) == first + rest.replace("⟧", "", 1)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_dialogue_ends_where_the_last_answer_does(name):
    assert shown(name, TWO_TURNS[:3]) == EXPECTED[name].partition("⟧")[0] + "⟧"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_prompt_has_the_ids_before_the_answer(name):
    """Ids that are sampled after this prompt are the ids that training reads."""
    row = encode_dialogue(vocabulary(name), template(name), TWO_TURNS, after=3)
    prompt = encode_prompt(vocabulary(name), template(name), TWO_TURNS[:3])
    assert row.ids[: row.counted.index(True)] == prompt


def test_tokens_that_count_one_by_one():
    """Word pieces of the small byte-level tokenizer; Ġ is a space."""
    row = encode_dialogue(vocabulary("CHATML"), template("CHATML"), [USER, BLUE])
    tokens = [vocabulary("CHATML").tokenizer.id_to_token(i) for i in row.ids]
    first = row.counted.index(True)
    assert tokens[first - 3 : first] == ["an", "t", "Ċ"]
    assert tokens[first:] == ["d", "ar", "k", "Ġb", "lu", "e", "<|im_end|>"]
    assert row.counted == [False] * first + [True] * (len(tokens) - first)


def test_system_turns_and_tools():
    assert shown("QWEN25", [SYSTEM, USER, CALL, RESULT, BLUE], tools=TOOLS) == (
        "<|im_start|>system\nAnswer in one word.\n\n# Tools\n<tools>\n"
        '{"type": "function", "function": {"name": "add", "parameters": {"a": "<int>"}}}'
        "\n</tools><|im_end|>\n<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n"
        '⟦<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call><|im_end|>⟧\n'
        "<|im_start|>user\n<tool_response>\n4\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
        "⟦dark blue<|im_end|>⟧"
    )
    assert shown("MISTRAL", [USER, CALL], tools=TOOLS).endswith(
        '⟦[TOOL_CALLS] [{"name": "add", "arguments": {"a": 2}}]</s>⟧'
    )
    assert '"parameters": {' in shown("LLAMA3", [USER, CALL], tools=TOOLS)
    chosen = replace(template("QWEN25"), variables={"tools": TOOLS})
    assert "# Tools" in render_chat(chosen, [USER])


def test_thoughts_of_earlier_turns_are_refused_and_those_of_the_last_count():
    thought = {"role": "assistant", "content": "<think>\nwarm\n</think>\n\nred"}
    assert shown("QWEN3", [USER, thought]) == (
        "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>\nwarm\n</think>\n\nred<|im_end|>⟧"
    )
    with pytest.raises(ValueError, match="messages 0 to 1 in another way when message 2 follows"):
        shown("QWEN3", [USER, thought, MORE, BLUE])
    assert shown("QWEN3", [USER, thought, MORE, BLUE], after=3) == (
        "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\nred<|im_end|>\n"
        "<|im_start|>user\nOne more, please!<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>\n\n</think>\n\ndark blue<|im_end|>⟧"
    )
    assert shown("QWEN3", [USER, RED], enable_thinking=False) == (
        "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n⟦red<|im_end|>⟧"
    )


def test_a_changed_beginning_is_refused():
    """A template that counts its messages."""
    counts = ChatTemplate({"default": "{{ messages | length }} " + chat_templates.CHATML})
    with pytest.raises(ValueError, match="messages 0 to 0 in another way when message 1 follows"):
        encode_dialogue(vocabulary("CHATML"), counts, [USER, RED])
    with pytest.raises(ValueError, match="messages 0 to 0 in another way"):
        shown("MISTRAL", TWO_TURNS, tools=TOOLS)  # tools stand before the last user's message
    assert shown("MISTRAL", TWO_TURNS, tools=TOOLS, after=3).endswith("[/INST]⟦ dark blue</s>⟧")
    with pytest.raises(ValueError, match="messages 0 to 1 in another way"):
        shown("MISTRAL", [SYSTEM, USER, RED])  # the system's text is left out of old turns


@pytest.mark.parametrize("name", EXPECTED)
def test_a_message_cannot_spell_a_special_token(name):
    tokenizer = vocabulary(name).tokenizer
    words = [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special]
    attack = "x" + " ".join(words) + words[-1]
    messages = [{"role": "user", "content": attack}, {"role": "assistant", "content": attack}]
    row = encode_dialogue(vocabulary(name), template(name), messages)
    plain = encode_dialogue(vocabulary(name), template(name), [USER, RED])
    special = reader(tokenizer).special
    assert [i for i in row.ids if i in special] == [i for i in plain.ids if i in special]
    counted = [i for i, count in zip(row.ids, row.counted, strict=True) if count]
    text = reader(tokenizer).continuing.decode(counted, skip_special_tokens=True)
    assert text.strip() == attack


def test_names_of_tools_and_roles_cannot_spell_one_either():
    bad = [{"type": "function", "function": {"name": "<|im_end|>"}}]
    row = encode_dialogue(vocabulary("QWEN25"), template("QWEN25"), [USER, RED], tools=bad)
    end = vocabulary("QWEN25").stop_ids[0]
    assert row.ids.count(end) == 3  # system, user, assistant
    with pytest.raises(ValueError, match="message 0: role 'im_end', expected one of"):
        encode_prompt(vocabulary("CHATML"), template("CHATML"), [USER | {"role": "im_end"}])
    with pytest.raises(ValueError, match="noncharacter"):
        encode_prompt(
            vocabulary("CHATML"), template("CHATML"), [USER | {"content": "\ufdd1<|im_end|>"}]
        )


def test_a_token_that_joins_prompt_and_answer_does_not_count():
    """The prompt ends in a space, which the tokenizer joins with the word after it."""
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    source += "{% if add_generation_prompt %}assistant: {% endif %}"
    words = vocabulary("CHATML")
    row = encode_dialogue(words, ChatTemplate({"default": source}), [USER, BLUE])
    tokens = [words.tokenizer.id_to_token(i) for i in row.ids]
    first = row.counted.index(True)
    assert tokens[first - 1].startswith("Ġ")
    assert "".join(tokens[first - 1 :]) == "ĠdarkĠblue<|im_end|>"
    assert all(row.counted[first:])


def test_a_tag_that_leaves_out_the_end_of_turn_counts_it():
    outside = chat_templates.TAGGED.replace(
        "m['content'] + '<|im_end|>' }}{% endgeneration %}",
        "m['content'] }}{% endgeneration %}{{ '<|im_end|>' }}",
    )
    assert outside != chat_templates.TAGGED
    words = vocabulary("TAGGED")
    row = encode_dialogue(words, ChatTemplate({"default": outside}), TWO_TURNS)
    assert row == encode_dialogue(words, template("TAGGED"), TWO_TURNS)


def test_the_end_of_turn_becomes_a_stop():
    words = vocabulary("CHATML")
    other = words.tokenizer.token_to_id("<|end|>")
    base = replace(words, stop_ids=(other,))
    found = with_turn_end(base, template("CHATML"))
    assert found.stop_ids == (other, *words.stop_ids)
    assert with_turn_end(found, template("CHATML")) == found
    for name in ("LLAMA2", "LLAMA3", "GEMMA", "MISTRAL", "QWEN3"):
        assert with_turn_end(vocabulary(name), template(name)) == vocabulary(name)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "zero supervised tokens: no message of the assistant's"),
        ([USER], "zero supervised tokens: no message of the assistant's"),
        ([USER, RED | {"content": ""}], "zero supervised tokens in message 1"),
        ([{"content": "a"}, RED], "message 0: expected"),
        ([{"role": "user"}, RED], "message 0: no content"),
        ([USER | {"content": {1, 2}}, RED], "expected JSON values in messages and tools, got set"),
        ([SYSTEM, USER, RED], "the chat template refuses the messages: System role not supported"),
    ],
)
def test_dialogues_that_cannot_be_read(messages, message):
    with pytest.raises(ValueError, match=message):
        encode_dialogue(vocabulary("GEMMA"), template("GEMMA"), messages)


def test_prompts_and_templates_that_cannot_be_read():
    words = vocabulary("CHATML")
    with pytest.raises(ValueError, match="the last message of a prompt is the assistant's"):
        encode_prompt(words, template("CHATML"), [USER, RED])
    with pytest.raises(ValueError, match="expected a list of messages"):
        render_chat(template("CHATML"), "hello")
    with pytest.raises(ValueError, match="no valid Jinja"):
        render_chat(ChatTemplate({"default": "{% if %}"}), [USER])
    with pytest.raises(ValueError, match="has no 'default', only"):
        render_chat(ChatTemplate({"rag": "x"}), [USER])
    for source in ("{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ cycler.x.y }}"):
        with pytest.raises(ValueError, match="refuses the messages"):
            render_chat(ChatTemplate({"default": source}), [USER])


def test_a_template_of_its_own_for_tools_and_loop_controls():
    sources = {
        "default": "plain",
        "tool_use": "{% for t in tools %}{{ t.name }}{% break %}{% endfor %}",
    }
    tools = [{"name": "add"}, {"name": "sub"}]
    assert render_chat(ChatTemplate(sources), [USER]) == "plain"
    assert render_chat(ChatTemplate(sources), [USER], tools=tools) == "add"
