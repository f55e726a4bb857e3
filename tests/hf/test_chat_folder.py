"""Chat templates of folders, and their texts, ids and masks beside those of `transformers`."""

import json
from datetime import datetime

import chat_templates
import pytest
from foreign_tokenizers import byte_level, config, sentencepiece, write_folder

from rlhf_jax.data.chat import encode_dialogue, encode_prompt
from rlhf_jax.data.templates import ChatTemplate, render_chat
from rlhf_jax.hf.vocabulary import read_chat_template, read_vocabulary

pytest.importorskip("jinja2")

USER = {"role": "user", "content": "Name a <colour> & more."}
RED = {"role": "assistant", "content": "red, é語"}
MORE = {"role": "user", "content": "One more, please!"}
BLUE = {"role": "assistant", "content": "dark blue"}
SYSTEM = {"role": "system", "content": "Answer in one word."}
CALLS = [{"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]
CALL = {"role": "assistant", "content": "", "tool_calls": CALLS}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"a": "<int>"}}}]


def template_of(folder) -> ChatTemplate:
    """The template of a folder that has one."""
    found = read_chat_template(folder)
    assert found is not None
    return found


def test_the_template_comes_from_the_files_of_a_folder(tmp_path):
    assert read_chat_template(tmp_path) is None
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "json"}))
    assert template_of(tmp_path).sources == {"default": "json"}
    named = [{"name": "default", "template": "config"}, {"name": "tool_use", "template": "tools"}]
    settings = {"chat_template": named, "bos_token": {"content": "<s>"}, "pad_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = template_of(tmp_path)
    assert found.sources == {"default": "config", "tool_use": "tools"}
    assert found.variables == {"bos_token": "<s>"}
    (tmp_path / "chat_template.jinja").write_text("file")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("rag")
    assert template_of(tmp_path).sources == {
        "default": "file",
        "tool_use": "tools",
        "rag": "rag",
    }
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": ["x"]}))
    with pytest.raises(ValueError, match="chat_template must be a text, or a list of"):
        template_of(tmp_path)


def folder_of(root, name):
    """A folder with the template of this name and a tokenizer of its kind."""
    special = ["<|begin|>", "<|start|>", "<|stop|>", "<|turn|>", "<|im_start|>", "<|im_end|>"]
    turns = ["<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "[TOOL_CALLS]"]
    if name in ("LLAMA2", "GEMMA", "MISTRAL"):
        tokenizer = sentencepiece([] if name == "LLAMA2" else turns, legacy=name == "LLAMA2")
        names = {"bos_token": "<s>", "eos_token": "</s>"}
    else:
        words = ("<think>", "</think>", "<tool_call>", "</tool_call>")
        tokenizer = byte_level(special, bos="<|begin|>", words=words)
        names = {"bos_token": "<|begin|>", "eos_token": "<|im_end|>"}
    settings = config(chat_template=getattr(chat_templates, name), **names)
    return write_folder(root / name, tokenizer, tokenizer_config=settings)


DIALOGUES = [([USER, RED], None), ([USER, RED, MORE, BLUE], None), ([SYSTEM, USER, RED], None)]
WITH_TOOLS = [([USER, CALL], TOOLS), ([USER, RED, MORE], TOOLS)]
NAMES = ["LLAMA2", "LLAMA3", "CHATML", "TAGGED", "QWEN25", "QWEN3", "GEMMA", "MISTRAL"]


@pytest.mark.slow
def test_texts_ids_and_masks_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    compared = 0
    for name in NAMES:
        folder = folder_of(tmp_path, name)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        vocabulary, template = read_vocabulary(folder), template_of(folder)
        cases = DIALOGUES + (WITH_TOOLS if name in ("LLAMA3", "QWEN25", "MISTRAL") else [])
        for messages, tools in cases:
            if name == "GEMMA" and messages[0]["role"] == "system":
                continue  # it has no system turns
            for end in (len(messages), len(messages) - 1):
                part, prompt = messages[:end], messages[end - 1]["role"] != "assistant"
                apply = theirs.apply_chat_template
                options = {"tools": tools, "add_generation_prompt": prompt}
                text = apply(part, tokenize=False, **options)
                ids = apply(part, return_dict=True, **options)["input_ids"]
                assert render_chat(template, part, **options) == text
                if prompt:
                    assert encode_prompt(vocabulary, template, part, tools=tools) == ids
                    compared += 1
                elif not (name == "QWEN3" and len(part) == 4) and not (
                    name == "MISTRAL" and part[0] is SYSTEM
                ):
                    row = encode_dialogue(vocabulary, template, part, tools=tools)
                    assert row.ids == ids[: len(row.ids)]
                    compared += 1
    # 8 templates x 3 dialogues x 2 lengths + 3 x 2 x 2 with tools, but for 2 of GEMMA's, 1 of
    # QWEN3's and 1 of MISTRAL's
    assert compared == 56


@pytest.mark.slow
def test_the_mask_of_generation_tags_is_that_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = folder_of(tmp_path, "TAGGED")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    found = theirs.apply_chat_template(
        [USER, RED, MORE, BLUE], return_dict=True, return_assistant_tokens_mask=True
    )
    row = encode_dialogue(read_vocabulary(folder), template_of(folder), [USER, RED, MORE, BLUE])
    assert row.counted == [bool(x) for x in found["assistant_masks"][: len(row.ids)]]
    assert not any(found["assistant_masks"][len(row.ids) :])


def test_the_date_of_a_template_stays(tmp_path):
    first = template_of(folder_of(tmp_path, "LLAMA3"))
    dated = ChatTemplate(first.sources, first.variables, datetime(2024, 7, 26))
    assert "Today Date: 26 Jul 2024\n" in render_chat(dated, [USER])
    assert render_chat(first, [USER]) == render_chat(first, [USER])
