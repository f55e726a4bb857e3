"""Bodies of requests: defaults, and what is refused by the name of its field."""

import pytest
from tiny_server import LONGEST, ids_of, tiny_reads

from rlhf_jax.serving.requests import BadRequest, parse_chat, parse_completion, parse_object

READS = tiny_reads()
USER = {"role": "user", "content": "hi"}


def test_a_text_and_its_ids_ask_for_the_same():
    for prompt in ("a b", [*ids_of("a b")], ["a b"], [[*ids_of("a b")]]):
        wanted = parse_completion({"prompt": prompt}, READS)
        assert wanted.prompts == [ids_of("a b")]
        assert (wanted.max_tokens, wanted.temperature, wanted.n) == (16, 1.0, 1)


def test_every_prompt_has_n_samples_of_one_seed():
    body = {"prompt": ["a", "b"], "n": 2, "seed": -1, "echo": True, "logprobs": 0}
    asks = parse_completion(body, READS).asks()
    assert [(ask.prompt, ask.sample) for ask in asks] == [
        (ids_of(text), sample) for text in "ab" for sample in (0, 1)
    ]
    assert {ask.seed for ask in asks} == {2**32 - 1}
    assert {(ask.scores, ask.likeliest) for ask in asks} == {(True, False)}


def test_messages_are_written_by_the_template_and_leave_all_the_room():
    parts = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    for message in (USER, parts):
        wanted = parse_chat({"messages": [message], "user": "me", "logit_bias": {}}, READS)
        # The template writes no <bos>.
        assert wanted.prompts == [ids_of("user: hi\nassistant: ")[1:]]
        assert wanted.max_tokens == LONGEST - len(wanted.prompts[0])


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"prompt": None}, "prompt", "must be a text or token ids"),
        ({"prompt": []}, "prompt", "must be a text or token ids"),
        ({"prompt": [[]]}, "prompt", "must be a text or token ids"),
        ({"prompt": [1, 2.5]}, "prompt", "must be a text or token ids"),
        ({"prompt": [True]}, "prompt", "must be a text or token ids"),
        ({"prompt": [260]}, "prompt", "has the id 260; ids are below 260"),
        ({"prompt": "\ud800"}, "prompt", "prompt: "),
        ({"max_tokens": -1}, "max_tokens", r"must be an integer in \[0, 200\], got -1"),
        ({"max_tokens": "5"}, "max_tokens", "must be an integer"),
        ({"max_tokens": 199}, "prompt", r"maximum context length is 200 tokens.*201 tokens"),
        ({"temperature": float("nan")}, "temperature", "must be a number"),
        ({"top_p": 0}, "top_p", "must be a number"),
        ({"n": 0}, "n", "must be an integer"),
        ({"seed": 2**64}, "seed", "must be an integer"),
        ({"stop": [""]}, "stop", "must be a text, or at most 16"),
        ({"stream": "yes"}, "stream", "must be true or false"),
        ({"stream_options": {"x": 1}}, "stream_options", "may have include_usage only"),
        ({"logprobs": 21}, "logprobs", "must be an integer"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "is not supported"),
        ({"top_k": 5}, "top_k", "is not supported"),
        ({"suffix": "x"}, "suffix", "is not supported"),
        ({"colour": "red"}, "colour", "is not supported"),
    ],
)
def test_a_bad_field_is_named(change, param, message):
    with pytest.raises(BadRequest, match=message) as found:
        parse_completion({"prompt": "a"} | change, READS)
    assert (found.value.param, found.value.status) == (param, 400)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"messages": "hi"}, "messages", "must be a list of messages"),
        ({"messages": ["hi"]}, "messages", "expected "),
        ({"messages": [{"role": "user"}]}, "messages", "message 0: no content"),
        ({"messages": [{"role": "me", "content": "x"}]}, "messages", "message 0: role 'me'"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "the assistant's"),
        ({"messages": [USER | {"content": [{"type": "image_url"}]}]}, "messages", "type text"),
        ({"max_tokens": 0}, "max_tokens", "must be an integer"),
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs: true"),
        ({"tools": [{}]}, "tools", "is not supported"),
    ],
)
def test_a_bad_message_is_named(change, param, message):
    with pytest.raises(BadRequest, match=message) as found:
        parse_chat({"messages": [USER]} | change, READS)
    assert found.value.param == param


def test_messages_need_a_template():
    with pytest.raises(BadRequest, match="no chat template; use /v1/completions"):
        parse_chat({"messages": [USER]}, READS._replace(chat=None))


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_body_is_a_json_object(body):
    with pytest.raises(BadRequest, match="the body"):
        parse_object(body)
