"""Comments in free text to labelled answers, by a policy or by a model at an address."""

import pytest
from unigram_lab import PROMPTS, unigram_lab

from rlhf_jax.data.principle_replies import ExtractionQuestion
from rlhf_jax.data.principles import phrase_extractor
from rlhf_jax.recipes import (
    asked_records,
    chat_extractor,
    extraction,
    feedback_records,
    language_extractor,
)
from rlhf_jax.recipes.extraction import counts_line
from rlhf_jax.rewards import ChatModel
from rlhf_jax.training import UserError

PHRASES = {
    "nice": ("polite", "yes"),
    "rude": ("polite", "no"),
    "too long": ("short", "no"),
    "fine": ("helpfulness", "yes"),
}
ROWS = [
    {"prompt": "p", "answer": "a", "comments": ["nice", "nice and too long", "nice , fine"]},
    {"prompt": "p", "answer": "b", "comments": ["rude", "nice", "rude , too long"]},
    {"prompt": "q", "answer": "c", "comments": ["too long"]},
]


def test_what_all_annotators_name_becomes_a_label_and_every_point_is_counted():
    found = feedback_records(ROWS, phrase_extractor(PHRASES))
    assert found.records == [
        {"prompt": "p", "answer": "a", "principle": "polite", "label": True},
        {"prompt": "p", "answer": "b", "principle": "polite", "label": False},
    ]
    assert asked_records(found.records)[0]["prompt"] == "p principle : polite"
    assert found.counts == {
        "extracted": {"kept": 9, "catch-all": 1},
        "quoted": {"kept": 9},
        "agreed": {"kept": 6, "not agreed": 2, "one annotator": 1},
        "merged": {"kept": 2, "merged": 4},
    }
    for step, before in zip(("quoted", "agreed", "merged"), (9, 9, 6), strict=True):
        assert sum(found.counts[step].values()) == before  # nothing is lost
    alone = feedback_records(ROWS, phrase_extractor(PHRASES), annotators=1)
    assert len(alone.records) == 5


def test_an_invented_quote_is_dropped_and_counted():
    def invent(comments):
        return [
            [("polite", "yes", "thanks a lot , sir"), ("polite", "yes", "nice")] for _ in comments
        ]

    found = feedback_records(ROWS[:1], invent)
    assert found.counts["quoted"] == {"kept": 3, "span not found": 3}
    with pytest.raises(UserError, match=r"no principle is left of 1 comments: .* one annotator 1"):
        feedback_records(ROWS[2:], phrase_extractor(PHRASES))
    with pytest.raises(UserError, match=r"extracted: kept 0, unread comments 3"):
        feedback_records(ROWS[:1], lambda comments: [None] * len(comments))


@pytest.mark.parametrize("comments", [None, [], "nice", ["nice", " "], [1]])
def test_rows_without_comments_are_named(comments):
    with pytest.raises(UserError, match="the answer to 'p' needs comments, a list of texts"):
        feedback_records([{**ROWS[0], "comments": comments}], phrase_extractor(PHRASES))
    with pytest.raises(UserError, match="the comments on 'p' have no answer beside them"):
        feedback_records([{"prompt": "p", "comments": ["nice"]}], phrase_extractor(PHRASES))


def test_a_policy_writes_replies_and_does_not_read_half_a_comment(monkeypatch):
    """The unigram policy cannot write a mark; replies are then replaced by lines."""
    lab, question = unigram_lab(), ExtractionQuestion("{comment}")
    params = lab.policy.init(None)
    extract = language_extractor(lab, params, question)
    assert extract(PROMPTS[:3]) == [None] * 3  # words without a mark: unread
    asked = []

    def write(lab, params, prompts, key, *, samples, sampling=None):
        asked.extend(prompts)
        return [[f"polite | yes | {prompt}"] for prompt in prompts]

    monkeypatch.setattr(extraction, "sample_texts", write)
    # Three columns have room for <bos> and two words.
    found = extract(["red blue", "red blue green", "grey"])
    assert found == [[("polite", "yes", "red blue")], None, [("polite", "yes", "grey")]]
    assert asked == ["red blue", "grey"]


def test_a_model_at_an_address_is_asked(monkeypatch):
    def ask(model, texts):
        assert model.model == "m"
        return ["none" if "too long" in text else "polite | yes | nice" for text in texts]

    monkeypatch.setattr(extraction, "ask_chat", ask)
    pytest.importorskip("openai")
    extract = chat_extractor(ChatModel("http://localhost:1/v1", "m"))
    assert extract(["nice", "too long"]) == [[("polite", "yes", "nice")], []]


def test_counts_are_a_line():
    assert counts_line({"a": {"kept": 1, "x": 2}, "b": {"kept": 0}}) == "a: kept 1, x 2; b: kept 0"
