"""The formats. A new one is a row here, a function from a row of the file, and a test file.

The first row of a file has the columns of its format; where several fit, the first in this table is
taken. "a|b" is one column under either name.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from rlhf_jax.data.fields import Fields
from rlhf_jax.data.formats import answers, labels, marked, pairs, rankings, steps
from rlhf_jax.data.formats.prompts import Parsed
from rlhf_jax.data.formats.text_pairs import PREDICTIONS, qa_row

ASKED = "prompt|question|instruction|problem|query"
TURNS = "messages|conversations|conversation"
ANSWERED = "completion|answer|response|output"
BESIDE = ("input", "system", "system_prompt", "history", "tools")
USER = {"role": "user", "content": "2+2?"}
FOUR, FIVE = ({"role": "assistant", "content": text} for text in ("4", "5"))


class Format(NamedTuple):
    """One format.

    kind: of its records, a key of `records.KINDS`.
    columns: that a row must have.
    parse: a row -> its records.
    example: one row.
    beside: columns that are read too where a row has them.
    skipped: columns that repeat what others say, so that leaving them out changes nothing.
    when: what else the first row must satisfy.
    grouped: consecutive rankings with the same prompt are one.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    parse: Callable[[Fields], Parsed]
    example: dict[str, Any]
    beside: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    when: Callable[[Fields], bool] = lambda fields: True
    grouped: bool = False


def _is_list_of(kind: type, *names: str) -> Callable[[Fields], bool]:
    def check(fields: Fields) -> bool:
        values = [fields.get(name) for name in names]
        return all(isinstance(x, list) and x and isinstance(x[0], kind) for x in values)

    return check


_MARGINS = (*(name for both in pairs.MARGINS for name in both), "margin")
_PAIR = (*BESIDE, *_MARGINS, "user", "environment", "annotator")
_HH = "\n\nHuman: 2+2?\n\nAssistant:"

FORMATS = (
    Format(
        "qa_feedback",
        "pairs",
        ("question", "passages", *PREDICTIONS, "preference"),
        qa_row,
        {
            "question": "Who?",
            "passages": [["Title", "Text."]],
            **{f"prediction {i}": f"Answer {i}." for i in range(1, 5)},
            "preference": [1, 2, 0, 1, 0, 2],
        },
    ),
    Format(
        "qa_feedback_spans",
        "spans",
        ("question", "passages", marked.MARKED, "feedback"),
        marked.qa_spans,
        {
            "question": "Who?",
            "passages": [["Title", "Text."]],
            marked.MARKED: "Answer 1.",
            "feedback": {"errors": [{"error type": "Irrelevant", "start": 0, "end": 9}]},
        },
        skipped=(*PREDICTIONS[1:], "preference", "gold"),
    ),
    Format(
        "openai_preference",
        "pairs",
        ("input", "preferred_output", "non_preferred_output"),
        pairs.input_outputs,
        {
            "input": {"messages": [USER]},
            "preferred_output": [FOUR],
            "non_preferred_output": [FIVE],
        },
    ),
    Format(
        "helpsteer3",
        "pairs",
        ("context", "response1", "response2", "overall_preference"),
        pairs.helpsteer3,
        {"context": [USER], "response1": "4", "response2": "5", "overall_preference": -2},
    ),
    Format(
        "helpsteer2_preference",
        "pairs",
        ("prompt", "response_1", "response_2", "preference_strength"),
        pairs.helpsteer2_preference,
        {"prompt": "2+2?", "response_1": "4", "response_2": "5", "preference_strength": -3},
    ),
    Format(
        "alpaca_preference",
        "pairs",
        ("instruction", "output_1", "output_2", "preference"),
        pairs.alpaca_preference,
        {"instruction": "Add.", "input": "2+2", "output_1": "4", "output_2": "5", "preference": 1},
        beside=("input",),
    ),
    Format(
        "shp",
        "pairs",
        ("history", "human_ref_A", "human_ref_B", "labels"),
        pairs.shp,
        {"history": "2+2?", "human_ref_A": "4", "human_ref_B": "5", "labels": 1},
        beside=("score_A", "score_B"),
    ),
    Format(
        "tldr_comparisons",
        "pairs",
        ("info", "summaries", "choice"),
        pairs.tldr_comparison,
        {
            "info": {"subreddit": "AskMath", "title": "2+2?", "post": "It is 4, isn't it?"},
            "summaries": [{"text": "2+2 is 4"}, {"text": "Numbers"}],
            "choice": 0,
        },
    ),
    Format(
        "label_pairs",
        "pairs",
        ("judgement", "prompt", "chosen", "rejected", "choice"),
        labels.label_pair,
        {"judgement": {}, "prompt": "2+2?", "chosen": "4", "rejected": "5", "choice": "left"},
        beside=("margin", "tools", "judgement"),
        skipped=("answers",),
    ),
    Format(
        "reward_bench_2",
        "rankings",
        ("prompt", "chosen", "rejected"),
        pairs.chosen_rejected_lists,
        {"prompt": "2+2?", "chosen": ["4"], "rejected": ["3", "5", "6"]},
        when=_is_list_of(str, "chosen", "rejected"),
    ),
    Format(
        "pairs",
        "pairs",
        (ASKED, "chosen", "rejected"),
        pairs.chosen_rejected,
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
        beside=_PAIR,
        skipped=("messages",),
    ),
    Format(
        "sharegpt_pairs",
        "pairs",
        (TURNS, "chosen", "rejected"),
        pairs.chosen_rejected,
        {
            "conversations": [{"from": "human", "value": "2+2?"}],
            "chosen": {"from": "gpt", "value": "4"},
            "rejected": {"from": "gpt", "value": "5"},
        },
        beside=_PAIR,
    ),
    Format(
        "dialogue_pairs",
        "pairs",
        ("chosen|chosen_messages", "rejected|rejected_messages"),
        pairs.chosen_rejected,
        {"chosen": f"{_HH} 4", "rejected": f"{_HH} 5"},
        beside=(*_PAIR, "prompt_messages"),
    ),
    Format(
        "stack_exchange_paired",
        "pairs",
        ("question", "response_j", "response_k"),
        pairs.chosen_rejected,
        {"question": "2+2?", "response_j": "4", "response_k": "5"},
    ),
    Format(
        "ultrafeedback",
        "rankings",
        ("instruction", "completions"),
        rankings.ultrafeedback,
        {
            "instruction": "2+2?",
            "completions": [
                {"response": "4", "fine-grained_score": 5.0},
                {"response": "5", "fine-grained_score": 1.0},
            ],
        },
        when=_is_list_of(dict, "completions"),
    ),
    Format(
        "nectar",
        "rankings",
        ("prompt", "answers"),
        rankings.nectar,
        {
            "prompt": f"{_HH} ",
            "answers": [{"answer": "4", "rank": 1}, {"answer": "5", "rank": 2}],
        },
        when=lambda fields: _has_key(fields, "answers", "rank"),
    ),
    Format(
        "stack_exchange",
        "rankings",
        ("question", "answers"),
        rankings.stack_exchange,
        {
            "question": "2+2?",
            "answers": [{"text": "4", "pm_score": 3}, {"text": "5", "pm_score": 0}],
        },
        when=lambda fields: _has_key(fields, "answers", "pm_score"),
    ),
    Format(
        "helpsteer2",
        "rankings",
        ("prompt", "response", "helpfulness"),
        rankings.helpsteer2,
        {"prompt": "2+2?", "response": "4", "helpfulness": 4},
        grouped=True,
    ),
    Format(
        "rankings",
        "rankings",
        (ASKED, "answers|completions|responses", "scores|ratings|rewards|ranks"),
        rankings.answers_scores,
        {"prompt": "2+2?", "answers": ["4", "5"], "scores": [1.0, 0.0]},
        beside=BESIDE,
        skipped=("judgement", "criteria"),
    ),
    Format(
        "stepwise",
        "steps",
        (ASKED, "completions", "labels"),
        steps.stepwise,
        {"prompt": "1+1+1?", "completions": ["1+1=2.", "2+1=4."], "labels": [True, False]},
        beside=BESIDE,
    ),
    Format(
        "label_spans",
        "steps",
        ("judgement", "prompt", "answer", "spans"),
        labels.label_spans,
        {
            "judgement": {},
            "prompt": "1+1+1?",
            "answer": "1+1=2. 2+1=4.",
            "spans": [{"start": 7, "end": 13, "quality": "bad"}],
        },
    ),
    Format(
        "marked_spans",
        "spans",
        (ASKED, ANSWERED, "spans"),
        marked.marked_answer,
        {
            "prompt": "1+1+1?",
            "answer": "1+1=2. 2+1=4.",
            "spans": [{"start": 7, "end": 13, "kind": "wrong"}],
        },
        beside=BESIDE,
        skipped=("judgement",),
    ),
    Format(
        "rated_steps",
        "steps",
        (ASKED, "steps"),
        steps.rated_steps,
        {"problem": "1+1+1?", "steps": [{"step": "1+1=2.", "rating": 1}]},
        when=_is_list_of(dict, "steps"),
        beside=BESIDE,
    ),
    Format(
        "prm800k",
        "steps",
        ("question", "label"),
        steps.prm800k,
        {
            "question": {"problem": "1+1+1?"},
            "label": {
                "steps": [
                    {"completions": [{"text": "1+1=2.", "rating": 1}], "chosen_completion": 0},
                    {"completions": [{"text": "2+1=4.", "rating": -1}], "chosen_completion": None},
                ]
            },
        },
        when=lambda fields: all(isinstance(fields[name], dict) for name in ("question", "label")),
    ),
    Format(
        "math_shepherd",
        "steps",
        ("input", "label"),
        steps.math_shepherd,
        {
            "input": "1+1+1? Step 1: 1+1=2. ки\nStep 2: 2+1=4. ки",
            "label": "1+1+1? Step 1: 1+1=2. +\nStep 2: 2+1=4. -",
        },
        when=lambda fields: steps.SHEPHERD_TAG in str(fields["input"]),
    ),
    Format(
        "labelled_messages",
        "labelled",
        (TURNS, "label|kto_tag"),
        answers.labelled_dialogue,
        {"messages": [USER, FOUR], "label": True},
        beside=("system", "system_prompt", "tools", "principle"),
    ),
    Format(
        "labelled",
        "labelled",
        (ASKED, ANSWERED, "label|kto_tag"),
        answers.labelled_completion,
        {"prompt": "2+2?", "completion": "4", "label": True},
        beside=(*BESIDE, "principle"),
    ),
    Format(
        "prompt_completion",
        "answers",
        (ASKED, "completion|answer|response"),
        answers.prompt_completion,
        {"prompt": "2+2?", "completion": "4"},
        beside=BESIDE,
    ),
    Format(
        "alpaca",
        "answers",
        ("instruction", "output"),
        answers.prompt_completion,
        {"instruction": "Add.", "input": "2+2", "output": "4"},
        beside=BESIDE,
    ),
    Format(
        "messages",
        "answers",
        (TURNS,),
        answers.dialogue,
        {"messages": [USER, FOUR]},
        beside=("system", "system_prompt", "tools"),
        skipped=("prompt",),
    ),
    Format("text", "answers", ("text",), answers.document, {"text": "A document."}),
    Format(
        "prompts",
        "prompts",
        (ASKED,),
        answers.prompt_only,
        {"prompt": "2+2?", "answer": "4"},
        beside=(*BESIDE, *answers.REFERENCE, "reward_model"),
    ),
    Format(
        "prompt_messages",
        "prompts",
        (TURNS,),
        answers.prompt_only,
        {"messages": [USER], "answer": "4"},
        beside=("system", "system_prompt", *answers.REFERENCE),
    ),
)


def _has_key(fields: Fields, name: str, key: str) -> bool:
    """Whether the first object in a list has this key."""
    return _is_list_of(dict, name)(fields) and key in fields[name][0]
