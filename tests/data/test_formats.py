"""Files in the formats people have, detected and read; each is small and made for this test."""

import json
from pathlib import Path

import pytest

from rlhf_jax.data.formats import FORMATS, Tally, read_rows, stream_records
from rlhf_jax.data.formats.reading import fits
from rlhf_jax.data.records import Answer, Labelled, Marked, Pair, PromptRecord, Ranking, Steps
from rlhf_jax.data.spans import MarkedSpan

FILES = Path(__file__).parent / "format_files"
SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "formats"
BY_NAME = {format.name: format for format in FORMATS}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be short."}
FRUIT, PLUM, CAR = (user("Name a fruit."),), (assistant("A plum."),), (assistant("A car."),)
AGAIN = (*FRUIT, *PLUM, user("Another?"))
HH = "\n\nHuman: Name a fruit.\n\nAssistant:"
QA = "Figs\nA dog ate it.\nIt was ripe.\n\nQuestion: who ate the fig?\n\nAnswer:\n"
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
CALLED = (
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "rain"},
    assistant("It rains."),
)
NAMED = (CALLED[0], {**CALLED[1], "name": "weather"}, CALLED[2])

EXPECTED = {
    "hh_rlhf.jsonl": (
        "dialogue_pairs",
        [
            Pair(HH, " A plum.", " A car."),
            Pair(f"{HH} A fig.\n\nHuman: Another?\n\nAssistant:", " A pear.", " No."),
        ],
    ),
    # Labels of (1,2) (1,3) (1,4) (2,3) (2,4) (3,4): the second and the fifth are ties.
    "qa_feedback.jsonl": (
        "qa_feedback",
        [
            Pair(QA, "A dog.", "A cat."),
            Pair(QA, "A dog.", "Nobody."),
            Pair(QA, "A dog.", "A cat."),
            Pair(QA, "A dog.", "Nobody."),
        ],
    ),
    "trl_preference.jsonl": ("pairs", [Pair("The sky is", " blue.", " green.")]),
    "trl_conversational.jsonl": (
        "pairs",
        [Pair((SYSTEM, *FRUIT), PLUM, (assistant("Well, there are many fruits."),))],
    ),
    "trl_implicit_prompt.jsonl": (
        "dialogue_pairs",
        [Pair(FRUIT, PLUM, CAR), Pair(AGAIN, (assistant("A fig."),), (assistant("No."),))],
    ),
    "ultrafeedback_binarized.jsonl": ("pairs", [Pair(FRUIT, PLUM, CAR, margin=2.5)]),
    "orca_pairs.jsonl": (
        "pairs",
        [
            Pair((SYSTEM, *FRUIT), PLUM, CAR),
            # The first row has messages, so this text becomes messages too.
            Pair((user("Name a colour."),), (assistant("Red."),), (assistant("Two."),)),
        ],
    ),
    "llama_factory_sharegpt_pairs.json": ("sharegpt_pairs", [Pair(FRUIT, PLUM, CAR)]),
    "llama_factory_alpaca_pairs.json": ("pairs", [Pair("Name one.\na fruit", "A plum.", "A car.")]),
    "openai_preference.jsonl": ("openai_preference", [Pair(FRUIT, PLUM, CAR)]),
    "chosen_messages.jsonl": ("dialogue_pairs", [Pair(FRUIT, PLUM, CAR)]),
    "alpaca_farm.json": (
        "alpaca_preference",
        [Pair("Name one.\na fruit", "A plum.", "A car."), Pair("Name a colour.", "Red.", "Two.")],
    ),
    # 10 - 4 votes.
    "shp.jsonl": ("shp", [Pair("How long do figs keep?", "A week.", "No idea.", margin=6.0)]),
    "tldr_comparisons.jsonl": (
        "tldr_comparisons",
        [
            Pair(
                "SUBREDDIT: r/food\n\nTITLE: Figs\n\nPOST: I ate a fig. It was good.\n\nTL;DR:",
                " Figs are good.",
                " Food.",
            ),
            Pair("Article: Figs grow.\n\nTL;DR:", "Figs grow.", "Cars."),
        ],
    ),
    "helpsteer2_preference.jsonl": (
        "helpsteer2_preference",
        [Pair("Name a fruit.", "A plum.", "A car.", margin=2.0)],
    ),
    "helpsteer3.jsonl": (
        "helpsteer3",
        [Pair(AGAIN, (assistant("A fig."),), (assistant("No."),), margin=3.0)],
    ),
    "stack_exchange_paired.jsonl": (
        "stack_exchange_paired",
        [Pair("How to eat a fig?", "Raw.", "Whole.")],
    ),
    "ultrafeedback.jsonl": (
        "ultrafeedback",
        [Ranking("Name a fruit.", ("A plum.", "A car.", "Fruit."), (4.75, 1.25, 1.25))],
    ),
    "helpsteer2.jsonl": (
        "helpsteer2",
        [
            Ranking(FRUIT, (PLUM, CAR), (4.0, 1.0)),
            Ranking(AGAIN, ((assistant("No."),), (assistant("A fig."),)), (0.0, 3.0)),
        ],
    ),
    "nectar.jsonl": (
        "nectar",
        [Ranking(f"{HH} ", ("A plum.", "Fruit.", "A car."), (-1.0, -2.0, -3.0))],
    ),
    "reward_bench_2.jsonl": (
        "reward_bench_2",
        [Ranking("Name a fruit.", ("A plum.", "A car.", "Two.", "No."), (1.0, 0.0, 0.0, 0.0))],
    ),
    "stack_exchange.jsonl": (
        "stack_exchange",
        [Ranking("<p>How to eat a fig?</p>", ("<p>Whole.</p>", "<p>Raw.</p>"), (1.0, 5.0))],
    ),
    "rankings.jsonl": (
        "rankings",
        [Ranking("Name a fruit.", ("A plum.", "A car."), (-1.0, -2.0))],
    ),
    "trl_stepwise.jsonl": (
        "stepwise",
        [
            Steps(
                "Which is larger, 9.8 or 9.11?",
                ("11 is larger than 8.", "So 9.11 is larger."),
                (1.0, 0.0),
            )
        ],
    ),
    "prm800k_steps.jsonl": (
        "rated_steps",
        [Steps("1+1+1?", ("1+1=2.", "Hm.", "2+1=4."), (1.0, 1.0, 0.0))],
    ),
    # Row 1: the solution that was taken, the second step by a person; two completions that were
    # not. Row 2 ends at its error. Row 3 has no steps.
    "prm800k.jsonl": (
        "prm800k",
        [
            Steps("1+1+1?", ("1+1=3.",), (0.0,)),
            Steps("1+1+1?", ("1+1=2.", "2+1=4."), (1.0, 0.0)),
            Steps("1+1+1?", ("1+1=2.", "2+1=3.", "So 3."), (1.0, 1.0, 1.0)),
            Steps("2+2?", ("Add.", "5."), (1.0, 0.0)),
        ],
    ),
    "math_shepherd.jsonl": (
        "math_shepherd",
        [
            Steps(
                "Ann has 1+1 plums and eats 1. How many?",
                ("Step 1: 1+1=2.", "Step 2: 2-1=2. The answer is: 2"),
                (1.0, 0.0),
            )
        ],
    ),
    "trl_unpaired.jsonl": (
        "labelled",
        [Labelled("The sky is", " blue.", True), Labelled("The sky is", " blue. ", False)],
    ),
    "llama_factory_kto.json": ("labelled_messages", [Labelled(FRUIT, PLUM, True)]),
    "messages_label.json": ("labelled_messages", [Labelled(AGAIN, (assistant("No."),), False)]),
    "openai_messages.jsonl": (
        "messages",
        [Answer((SYSTEM, *FRUIT), (*PLUM, user("Another?"), assistant("A fig.")))],
    ),
    "sharegpt_tools.json": (
        "messages",
        [Answer((SYSTEM, user("Weather in Oslo?")), CALLED, tools=({"name": "weather"},))],
    ),
    "alpaca.json": (
        "alpaca",
        [
            Answer((SYSTEM, user("Hi"), assistant("Hello."), user("Name one.\na fruit")), PLUM),
            Answer((user("Name a colour."),), (assistant("Red."),)),
        ],
    ),
    "label_pairs.jsonl": ("label_pairs", [Pair("2+2?", "4", "5", margin=2.0, annotator="ann")]),
    "qa_feedback_spans.jsonl": (
        "qa_feedback_spans",
        [
            Marked(
                QA, "A dog ran.", (MarkedSpan(0, 6, "Irrelevant"), MarkedSpan(3, 8, "Unverifiable"))
            )
        ],
    ),
    "marked_spans.jsonl": (
        "marked_spans",
        [Marked("1+1+1?", "1+1=2. 2+1=4.", (MarkedSpan(7, 13, "wrong"),)), Marked("2?", "2", ())],
    ),
    "label_spans.jsonl": ("label_spans", [Steps("1+1+1?", ("1+1=2.", "2+1=4."), (1.0, 0.0))]),
    "prompt_completion.jsonl": ("prompt_completion", [Answer("The sky is", " blue.")]),
    "text.jsonl": ("text", [Answer("", "Once upon a time.")]),
    "documents.txt": (
        "text",
        [Answer("", "Once upon a time\nthere was a dog."), Answer("", "The end.")],
    ),
    "gsm8k.jsonl": ("prompt_completion", [Answer("1+1?", "1+1=<<1+1=2>>2\n#### 2")]),
    "prompts.jsonl": (
        "prompts",
        [PromptRecord("Name a fruit.", None, {"prompt": "Name a fruit."})],
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_is_detected_and_read(name):
    format, records = EXPECTED[name]
    found = read_rows(FILES / name)
    assert found.format == format
    assert found.kind == BY_NAME[format].kind
    assert list(found.records) == records


def test_every_format_has_a_file_and_an_example_that_is_detected():
    used = {format for format, _ in EXPECTED.values()}
    assert set(BY_NAME) - used == {"prompt_messages"}  # one of kind "prompts", below
    for format in FORMATS:
        # A prompt with its answer is one to imitate, unless prompts are asked for.
        among = FORMATS if format.kind != "prompts" else [x for x in FORMATS if x.kind == "prompts"]
        assert next(x for x in among if fits(x, format.example)) is format
        assert format.parse(format.example).records


def test_tools_and_tool_calls_stay_with_their_pair():
    (pair,) = read_rows(FILES / "trl_tools.jsonl").records
    assert pair.prompt == (user("Weather in Oslo?"),)
    assert pair.chosen == NAMED
    assert pair.rejected == (assistant("No idea."),)
    assert [tool["function"]["name"] for tool in pair.tools] == ["weather"]


def test_prompts_have_the_reference_of_a_verifier():
    (prompt,) = read_rows(FILES / "gsm8k.jsonl", kind="prompts").records
    assert (prompt.prompt, prompt.reference) == ("1+1?", "1+1=<<1+1=2>>2\n#### 2")
    (prompt,) = read_rows(FILES / "verl.jsonl").records
    assert (prompt.prompt, prompt.reference) == ((user("1+1?"),), "2")
    assert prompt.fields["data_source"] == "gsm8k"


def test_prompts_may_be_dialogues(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": [*AGAIN], "answer": "A fig."}))
    (prompt,) = read_rows(path, kind="prompts").records
    assert (prompt.prompt, prompt.reference) == (AGAIN, "A fig.")


def test_a_ranking_becomes_all_its_pairs():
    """Of scores 4.75, 1.25, 1.25 two pairs differ; the margin is 3.5."""
    pairs = read_rows(FILES / "ultrafeedback.jsonl", kind="pairs").records
    answers = [("A plum.", "A car."), ("A plum.", "Fruit.")]
    assert list(pairs) == [Pair("Name a fruit.", *both, margin=3.5) for both in answers]
    assert len(read_rows(FILES / "nectar.jsonl", kind="pairs").records) == 3
    assert len(read_rows(FILES / "reward_bench_2.jsonl", kind="pairs").records) == 3


def test_pairs_become_labelled_answers_and_answers():
    path = FILES / "trl_preference.jsonl"
    assert list(read_rows(path, kind="labelled").records) == [
        Labelled("The sky is", " blue.", True),
        Labelled("The sky is", " green.", False),
    ]
    assert list(read_rows(path, kind="answers").records) == [Answer("The sky is", " blue.")]
    assert list(read_rows(path, kind="prompts").records) == [PromptRecord("The sky is")]
    kept = read_rows(FILES / "trl_unpaired.jsonl", kind="answers").records
    assert list(kept) == [Answer("The sky is", " blue.")]


def test_what_is_dropped_is_counted_and_unused_columns_are_named_once():
    found = read_rows(FILES / "helpsteer2.jsonl")
    assert found.rows == 7
    assert found.counts == {"ties": 1, "rankings of one answer": 1}
    assert found.unused == ("correctness", "coherence", "complexity", "verbosity")
    assert found.note() == (
        "helpsteer2: 2 rankings of 7 rows, 1 ties, 1 rankings of one answer; unused columns: "
        "correctness, coherence, complexity, verbosity"
    )
    assert read_rows(FILES / "trl_preference.jsonl").counts == {"equal answers": 1}
    assert read_rows(FILES / "hh_rlhf.jsonl").counts == {"blank answers": 1}
    assert read_rows(FILES / "trl_unpaired.jsonl").counts == {"contradicted, kept": 2}
    assert read_rows(FILES / "ultrafeedback.jsonl").counts == {"blank answers": 1}
    assert read_rows(FILES / "alpaca_farm.json").counts == {"ties": 1}


def test_a_stream_gives_the_same_records_one_by_one():
    tally = Tally()
    stream = stream_records(FILES / "nectar.jsonl", tally, kind="pairs")
    assert next(stream) == Pair(f"{HH} ", "A plum.", "Fruit.", margin=1.0)
    assert (tally.format, tally.rows) == (BY_NAME["nectar"], 1)
    assert len(list(stream)) == 2


def test_a_format_can_be_named():
    path = FILES / "gsm8k.jsonl"
    assert read_rows(path, format="prompts").kind == "prompts"
    with pytest.raises(ValueError, match=r"format must be one of qa_feedback, .* got parquet"):
        read_rows(path, format="parquet")
    with pytest.raises(ValueError, match="format text has answers, which cannot become pairs"):
        read_rows(path, kind="pairs", format="text")
    with pytest.raises(ValueError, match=r"kind must be one of pairs, answers, .* got 'sft'"):
        read_rows(path, kind="sft")
    with pytest.raises(ValueError, match=r"row 1: field chosen is missing; .* question \(text\)"):
        read_rows(path, format="pairs")


@pytest.mark.skipif(not SHARED.exists(), reason="the real files are not part of the project")
def test_real_files_of_llama_factory():
    pairs = read_rows(SHARED / "sharegpt_pairs.json")
    assert pairs.note() == "sharegpt_pairs: 60 pairs of 60 rows"
    raw = json.loads((SHARED / "sharegpt_pairs.json").read_text(encoding="utf-8"))
    for pair, row in zip(pairs.records, raw, strict=True):
        assert [m["content"] for m in pair.prompt] == [m["value"] for m in row["conversations"]]
        assert pair.chosen == (assistant(row["chosen"]["value"]),)
    assert sum(len(pair.prompt) > 1 for pair in pairs.records) > 1
    labelled = read_rows(SHARED / "messages_with_label.json")
    assert labelled.note() == "labelled_messages: 60 labelled of 60 rows"
    assert {record.label for record in labelled.records} == {True, False}


def test_answers_with_marked_spans(tmp_path):
    """Of QA-feedback, of `rlhf label` and of plain rows, where spans are asked for."""
    (found,) = read_rows(FILES / "qa_feedback_spans.jsonl", kind="spans").records
    spans = (MarkedSpan(0, 6, "Irrelevant"), MarkedSpan(3, 8, "Unverifiable"))
    assert found == Marked(QA, "A dog ran.", spans)
    (found,) = read_rows(FILES / "label_spans.jsonl", kind="spans").records
    assert found == Marked("1+1+1?", "1+1=2. 2+1=4.", (MarkedSpan(11, 12, "facts"),))
    path = tmp_path / "rows.jsonl"
    row = {"prompt": [user("Hi")], "answer": " Bye. ", "spans": []}
    path.write_text(json.dumps(row))
    # Spans count the characters of the answer, so it stays as it is.
    assert list(read_rows(path).records) == [Marked((user("Hi"),), " Bye. ", ())]
    mixed = [row, row | {"prompt": "Hi"}]
    path.write_text("\n".join(map(json.dumps, mixed)))
    assert list(read_rows(path).records) == [Marked((user("Hi"),), " Bye. ", ())] * 2
    assert read_rows(path, kind="prompts").records[0].prompt == (user("Hi"),)


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ({"start": 2, "end": 9, "kind": "wrong"}, "a span must lie in the 4 characters"),
        ({"start": 2, "end": 2, "kind": "wrong"}, "a span must lie in the 4 characters"),
        ({"start": 0.5, "end": 2, "kind": "wrong"}, "start and end must be whole numbers"),
        ({"start": 0, "end": 2, "kind": " "}, "kind is empty"),
        ({"start": 0, "end": 2}, "field kind is missing"),
        ("wrong", "expected objects, found text"),
    ],
)
def test_a_span_that_marks_nothing_is_named_with_its_row(tmp_path, span, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "Hi", "answer": "Bye.", "spans": [span]}))
    with pytest.raises(ValueError, match=rf"row 1: (field spans: )?{message}"):
        read_rows(path)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"annotator": "ann"}, "ann"),
        ({"annotator": 0}, "0"),
        ({"judgement": {"annotator": "bob"}}, "bob"),
        ({"annotator": "ann", "judgement": {"annotator": "bob"}}, "ann"),
        ({"annotator": ""}, None),
        ({"annotator": ["ann"], "judgement": "fine"}, None),
        ({}, None),
    ],
)
def test_a_pair_says_who_judged(tmp_path, more, name):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "2+2?", "chosen": "4", "rejected": "5", **more}))
    (pair,) = read_rows(path).records
    assert pair == Pair("2+2?", "4", "5", annotator=name)
