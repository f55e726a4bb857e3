"""What a model says of a comment: points, prose around them, tables, and replies without any."""

import pytest

from rlhf_jax.data.principle_replies import ExtractionQuestion, read_points, reply_extractor
from rlhf_jax.data.principles import FeedbackComment, checked_spans, extracted_points

LINE = ("brief", "no", "far too long")


@pytest.mark.parametrize(
    "reply",
    [
        "brief | no | far too long",
        'brief|no|"far too long"\n',
        "Here they are:\n\nbrief | no | 'far too long'\nThat is all.",
        "| principle | verdict | words |\n|---|:-:|---|\n| brief | no | far too long |",
        "**brief** | no | `far too long`",
    ],
)
def test_a_point_is_read_in_every_form_that_models_write(reply):
    found = read_points(reply) or []
    assert LINE in found
    assert len(found) == 1 + ("verdict" in reply)


def test_none_is_an_empty_list_and_prose_is_unread():
    assert read_points("None.") == read_points('"none"') == []
    assert read_points("") is read_points("It is none of these.") is None
    assert read_points("brief | no | far too long\nnone") == [LINE]


def test_a_line_of_other_parts_has_no_verdict():
    assert read_points("brief | no") == [("brief | no", "", "")]
    assert read_points("a | b | c | d") == [("a | b | c | d", "", "")]
    short = ExtractionQuestion("{comment}", line=";", mark="=")
    assert read_points("brief = no = far too long ; kind = yes = nice", short) == [
        LINE,
        ("kind", "yes", "nice"),
    ]


def test_an_extractor_asks_about_each_comment_and_its_quotes_are_checked():
    replies = {
        "far too long , {x}": "brief | no | far too long\nprice | yes | names a price",
        "nice": "polite | sort of | nice",
        "hm": "I cannot say.",
        "gone": None,
    }
    asked = []

    def ask(texts):
        asked.extend(texts)
        return [replies[text[1:-1]] for text in texts]

    extract = reply_extractor(ask, ExtractionQuestion("<{comment}>"))
    found = extracted_points(
        [FeedbackComment(0, n, text) for n, text in enumerate(replies)], extract
    )
    assert asked == [f"<{text}>" for text in replies]
    assert found.counts == {"kept": 2, "no verdict": 1, "unread comments": 2}
    checked = checked_spans(found.points)
    assert checked.counts == {"kept": 1, "span not found": 1}  # nobody wrote "names a price"
    assert checked.points[0].principle == "brief"


@pytest.mark.parametrize("text", ["no field", "{comment} {other}", "{}"])
def test_a_question_has_the_comment_and_nothing_else(text):
    with pytest.raises(ValueError, match=r"must have \{comment\}, got"):
        reply_extractor(lambda texts: [], ExtractionQuestion(text))
