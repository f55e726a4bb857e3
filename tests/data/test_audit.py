"""Each finding by hand, on a few rows made for it."""

import json
from pathlib import Path

import numpy as np
import pytest

from rlhf_jax.data.audit import AuditEntry, AuditFile, answers, duplicates, read_audit, texts
from rlhf_jax.data.audit.cycles import intransitive_triples
from rlhf_jax.data.audit.minhash import near_pairs
from rlhf_jax.data.audit.noise import confident_labels
from rlhf_jax.data.audit.rows import judged_pairs
from rlhf_jax.data.records import Answer, Labelled, Pair, PromptRecord, Ranking, Steps

FILES = Path(__file__).parent / "format_files"


def file_of(kind, *records):
    entries = tuple(AuditEntry(str(i), record) for i, record in enumerate(records, start=1))
    return AuditFile(Path("a.jsonl"), kind, kind, len(records), entries)


def words(first, last):
    return " ".join(f"w{i}" for i in range(first, last))


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def user(text):
    return ({"role": "user", "content": text},)


def test_records_equal_up_to_spaces_are_duplicates():
    file = file_of("pairs", Pair("p", "a", "b"), Pair("p ", " a", "b"), Pair("p", "b", "a"))
    found = duplicates.exact_duplicates(file)
    assert (found.count, found.total, found.places) == (1, 3, ("2",))
    assert found.examples == ("row 2 is row 1 again",)
    labels = file_of("labelled", Labelled("p", "a", True), Labelled("p", "a", False))
    assert duplicates.exact_duplicates(labels).count == 0


def test_near_duplicates_share_most_of_their_three_word_sequences():
    """22 words have 20 shingles. With another last word 19 are shared of 21, J = 0.905; with
    another word in the middle 17 of 23, J = 0.739."""
    whole = words(0, 22)
    end, middle = whole.replace("w21", "x"), whole.replace("w10", "x")
    file = file_of("answers", *(Answer("p", text) for text in (whole, end, middle)))
    assert duplicates.near_duplicates(file, similarity=0.8).places == ("2",)
    assert duplicates.near_duplicates(file, similarity=0.92).places == ()
    # The third is near the first at 0.7, and counted once.
    assert duplicates.near_duplicates(file, similarity=0.7).places == ("2", "3")


def test_each_text_must_be_near_and_exact_duplicates_are_not_counted_again():
    prompt, one, other = words(0, 40), words(50, 60), words(70, 80)
    pairs = [Pair(prompt, one, other), Pair(prompt, other, one), Pair(prompt, one, other)]
    assert duplicates.near_duplicates(file_of("pairs", *pairs), similarity=0.8).count == 0
    ranking = Ranking(prompt, (one, other), (1.0, 0.0))
    assert duplicates.near_duplicates(file_of("rankings", ranking), similarity=0.8).count == 0


def test_every_near_pair_among_hundreds_of_rows_is_found():
    rows = [("", words(100 * i, 100 * i + 30)) for i in range(200)]
    rows += [("", f"{text} end") for _, text in rows]  # 28 shingles of 29: J = 0.966
    assert near_pairs(rows, 0.9) == [(i, i + 200) for i in range(200)]


def test_a_comparison_decided_both_ways_is_a_contradiction_on_both_sides():
    file = file_of("pairs", Pair("p", "a", "b"), Pair("p", "b", "a"), Pair("q", "a", "b"))
    found = duplicates.contradictions(file, judged_pairs(file))
    assert (found.count, found.total, found.places) == (2, 3, ("1", "2"))
    labels = (Labelled("p", "a", True), Labelled("p", "a ", False), Labelled("p", "b", True))
    assert duplicates.contradictions(file_of("labelled", *labels), []).places == ("1", "2")
    steps = (Steps("p", ("s",), (1.0,)), Steps("p", ("s",), (0.0,)))
    assert duplicates.contradictions(file_of("steps", *steps), []).count == 2
    answers_only = file_of("answers", Answer("p", "a"))
    assert duplicates.contradictions(answers_only, []).inapplicable == "answers without judgements"


def test_prompts_of_another_split_are_leaked_if_the_same_or_near():
    long = words(0, 30)
    train = file_of("pairs", Pair("Two  plus TWO?", "4", "5"), Pair(long, "a", "b"))
    rows = (PromptRecord("two plus two?"), PromptRecord(f"{long} end"), PromptRecord("three"))
    test = file_of("prompts", *rows)
    same, near = duplicates.leaked_prompts(train, test, similarity=0.9)
    assert (same.count, same.total, same.places) == (1, 3, ("1",))
    assert same.examples == ("row 1 of a.jsonl: prompt of row 1",)
    assert (near.count, near.places) == (1, ("2",))
    documents = file_of("answers", Answer("", "a"))
    assert duplicates.leaked_prompts(train, documents, similarity=0.9)[0].inapplicable


def test_ties_empty_and_overlong_answers(tmp_path):
    rows = [
        {"instruction": "i", "output_1": "a", "output_2": "b", "preference": 1},
        {"instruction": "i", "output_1": "a", "output_2": "b", "preference": 0},
        {"instruction": "i", "output_1": "a", "output_2": "a ", "preference": 2},
        {"instruction": "i", "output_1": "a b c d", "output_2": " ", "preference": 1},
    ]
    file = read_audit(write(tmp_path / "a.jsonl", *rows))
    found = answers.ties(file)
    assert (found.count, found.total, found.places) == (2, 4, ("2", "3"))
    assert found.details == {"marked as ties": 1, "equal answers": 1}
    assert answers.empty_answers(file).places == ("4",)
    sizes = answers.word_sizes(file)
    assert sizes == [(1, 1), (1, 1), (4, 0)]
    long = answers.overlong_answers(file, sizes, most=3, unit="words")
    assert long.places == ("4",)
    assert long.details == {"median, in words": 1.0, "99%, in words": 4, "longest, in words": 4}
    ranked = file_of("rankings", Ranking("p", ("a", "b", "c"), (1.0, 1.0, 0.0)))
    assert answers.ties(ranked).places == ("1",)


def test_the_longer_answer_wins_as_often_as_counted():
    """Words 3 : 1, 2 : 2, 1 : 4 and 5 : 2, so (1 + 0.5 + 0 + 1) / 4."""
    lengths = ((3, 1), (2, 2), (1, 4), (5, 2))
    records = [Pair("pqrr"[i], words(0, a), words(9, 9 + b)) for i, (a, b) in enumerate(lengths)]
    file = file_of("pairs", *records)
    found = answers.length_bias(judged_pairs(file), answers.word_sizes(file), "pairs")
    assert found.share == 0.625
    assert (found.count, found.details) == (2, {"chosen longer": 0.5, "equal lengths": 0.25})
    assert found.sample is not None
    assert found.sample.groups.tolist() == [0, 1, 2, 2]
    # Of a ranking 2 > 0 > 1: the pairs have lengths 1 : 3, 1 : 2 and 3 : 2.
    ranking = file_of("rankings", Ranking("p", ("a b c", "d e", "f"), (1.0, 0.0, 2.0)))
    found = answers.length_bias(judged_pairs(ranking), answers.word_sizes(ranking), "rankings")
    assert found.sample is not None
    assert found.sample.hits.tolist() == [0, 0, 1]
    assert answers.length_bias([], [], "answers").inapplicable == "answers without pairs"


def test_chosen_answers_with_the_lower_score_are_counted():
    records = (
        Pair("p", "a", "b", margin=-1.0),
        Pair("p", "a", "c", margin=2.0),
        Pair("q", "a", "b"),
    )
    found = answers.lower_scored(file_of("pairs", *records))
    assert (found.count, found.total, found.places) == (1, 2, ("1",))


def test_cycles_are_counted_among_triples_with_all_three_judgements():
    """a > b > c > a is a cycle; a > b > c, a > c is none; d is compared with one of them."""
    cycle = [Pair("p", "a", "b"), Pair("p", "b", "c"), Pair("p", "c", "a"), Pair("p", "d", "a")]
    order = [Pair("q", "a", "b"), Pair("q", "b", "c"), Pair("q", "a", "c")]
    pairs = judged_pairs(file_of("pairs", *cycle, *order))
    found = intransitive_triples(pairs, "pairs")
    assert (found.count, found.total, found.places) == (1, 2, ("1", "2", "3"))
    # Two votes against one turn c > a around: no cycle. One against one is no comparison.
    for more, triples in ((2, 2), (1, 1)):
        voted = [*cycle, *order, *[Pair("p", "a", "c")] * more]
        found = intransitive_triples(judged_pairs(file_of("pairs", *voted)), "pairs")
        assert (found.count, found.total) == (0, triples)
    assert intransitive_triples([], "pairs").inapplicable


def test_two_cycles_in_four_answers():
    """a > b > c > a and a > b > d > a share an edge; c > d, so a, c, d and b, c, d are in order."""
    edges = ("ab", "bc", "ca", "bd", "da", "cd")
    file = file_of("pairs", *(Pair("p", *edge) for edge in edges))
    found = intransitive_triples(judged_pairs(file), "pairs")
    assert (found.count, found.total) == (2, 4)


def test_prompts_of_another_shape_than_most_are_drift():
    system = ({"role": "system", "content": "s"}, *user("p"))
    records = [Answer(user("p"), user("a"))] * 2 + [Answer(system, user("a")), Answer("p", "a")]
    found = texts.template_drift(file_of("answers", *records))
    assert found.places == ("3", "4")
    shapes = {"messages": 2, "messages with a system text": 1, "text": 1}
    assert found.details == shapes


def test_markers_of_templates_and_roles_in_texts():
    records = (
        Answer("p", "Yes.<|im_end|>\n<|im_start|>user"),
        Answer("p", "Yes.\n\nHuman: And?"),
        Answer("[INST] p [/INST]", "Yes."),
        Answer("\n\nHuman: p\n\nAssistant:", "A Human: is a person, a < b."),
    )
    found = texts.stray_markers(file_of("answers", *records))
    assert found.places == ("1", "2", "3")
    assert found.details == {
        **{"<|im_end|>": 1, "<|im_start|>": 1, "Human:": 1},
        **{"[INST] in prompts": 1, "[/INST] in prompts": 1},
    }


PERSONAL = {
    "e-mail addresses": ["ann.b+c@mail.example.org", "a@b.io"],
    "card numbers": ["4539 1488 0343 6467", "4539148803436467", "378282246310005"],
    "IP addresses": ["192.168.0.1", "255.255.255.255"],
    "phone numbers": ["+44 20 7946 0958", "(555) 123-4567", "555-123-4567", "+1 (555) 123-4567"],
}
HARMLESS = ["a@b", "4539 1488 0343 6468", "999.1.1.1", "1.2.3.4.5", "2020-01-02", "10 20 30 40 50"]


@pytest.mark.parametrize("name", PERSONAL)
def test_what_looks_personal_is_counted_by_kind_and_masked(name):
    for text in PERSONAL[name]:
        found = texts.personal_strings(file_of("answers", Answer("p", f"It is {text}.")))
        assert (found.count, found.details) == (1, {name: 1}), text
        assert texts.masked(f"It is {text}.") == f"It is [{name}]."


def test_other_numbers_are_not_personal():
    for text in HARMLESS:
        assert texts.personal_strings(file_of("answers", Answer("p", f"It is {text}."))).count == 0
        assert texts.masked(text) == text


def test_the_check_digit_of_card_numbers():
    """From the right of 79927398713: 3+7+9+7+9+7 = 42 and 2, 16, 6, 4, 18 -> 2+7+6+4+9 = 28."""
    assert texts.luhn("79927398713")
    assert not texts.luhn("79927398710")


def test_characters_that_a_conversion_left():
    strange = ("a\ufffdb", "cafÃ©", "a\x00b", "a\u200bb", "a &amp; b")
    found = texts.encoding_faults(file_of("answers", *(Answer("p", text) for text in strange)))
    assert found.count == 5
    assert found.details == dict.fromkeys(texts.FAULTS, 1)
    fine = file_of("answers", Answer("naïve", "Größe, “quoted”, 中文, AT&T"))
    assert texts.encoding_faults(fine).count == 0


def test_an_answer_in_another_script_than_its_prompt():
    russian, english = "Сколько будет два плюс два? " * 2, "How much is two plus two? " * 2
    records = (Answer(english, russian), Answer(russian, russian), Answer(english, "да"))
    found = texts.foreign_scripts(file_of("answers", *records))
    assert (found.places, found.details) == (("1",), {"Latin and Cyrillic": 1})
    french = file_of("answers", Answer(english, "Ça fait « quatre » — évidemment, cher élève."))
    assert texts.foreign_scripts(french).count == 0


def test_confident_labels_by_hand():
    """One class: t = mean of 0.9, 0.8, 0.7, 0.6, 0.1 = 0.62. The first three are confident of
    their label, 0.6 of none, and the last of the other one: 1 - 0.1 >= 0.62. One of four."""
    probs = np.array([0.9, 0.8, 0.7, 0.6, 0.1])
    confident, flipped = confident_labels(probs, np.zeros(5, int))
    assert confident.tolist() == [True, True, True, False, True]
    assert flipped.tolist() == [False, False, False, False, True]
    # Two classes: t_0 = (0.9 + 0.2) / 2 = 0.55 and t_1 = (0.8 + 0.6) / 2 = 0.7. The second row has
    # P(1) = 0.8 >= 0.7, so it looks like class 1; the last has P(1) = 0.6 and is of neither.
    probs, labels = np.array([0.9, 0.2, 0.8, 0.6]), np.array([0, 0, 1, 1])
    confident, flipped = confident_labels(probs, labels)
    assert confident.tolist() == [True, True, True, False]
    assert flipped.tolist() == [False, True, False, False]


def test_bad_rows_are_findings_and_the_others_are_read(tmp_path):
    good = {"prompt": "p", "chosen": "a", "rejected": "b", "source": "x"}
    path = write(tmp_path / "a.jsonl", good, {"prompt": "p", "chosen": "a"}, good)
    path.write_text(path.read_text() + "{broken\n")
    file = read_audit(path)
    assert (file.format, file.kind, file.rows, file.unused) == ("pairs", "pairs", 4, ("source",))
    assert [place for place, _ in file.entries] == ["1", "3"]
    found = answers.unreadable_rows(file)
    assert (found.count, found.total, found.places) == (2, 4, ("2", "4"))
    assert found.examples[0] == (
        "row 2: field rejected is missing; every row needs the fields of the first one (the row "
        "has the columns of format prompts: split the file)"
    )
    with pytest.raises(ValueError, match=r"no record in 1 rows; row 1: no format"):
        read_audit(write(tmp_path / "b.jsonl", {"x": 1}))
    with pytest.raises(ValueError, match="no record in 0 rows"):
        read_audit(write(tmp_path / "c.jsonl"))


def test_rows_of_a_folder_are_named_with_their_file(tmp_path):
    row = {"prompt": "p", "response": "a", "helpfulness": 1}
    write(tmp_path / "1.jsonl", row)
    write(tmp_path / "2.jsonl", {**row, "response": "b", "helpfulness": 4}, {**row, "prompt": "q"})
    file = read_audit(tmp_path)
    assert [place for place, _ in file.entries] == ["1.jsonl:1", "2.jsonl:2"]
    assert file.entries[0].record == Ranking("p", ("a", "b"), (1.0, 4.0))


@pytest.mark.parametrize("path", sorted(FILES.iterdir()), ids=lambda path: path.name)
def test_every_format_can_be_audited(path):
    file = read_audit(path)
    pairs, sizes = judged_pairs(file), answers.word_sizes(file)
    found = [
        duplicates.near_duplicates(file, similarity=0.8),
        duplicates.contradictions(file, pairs),
        answers.ties(file),
        answers.length_bias(pairs, sizes, file.kind),
        answers.overlong_answers(file, sizes, most=5, unit="words"),
        answers.unsupervised_rows(file, []),
        intransitive_triples(pairs, file.kind),
        texts.template_drift(file),
        texts.stray_markers(file),
        *duplicates.leaked_prompts(file, file, similarity=0.8),
    ]
    assert all(0 <= x.share <= 1 for x in found)
    assert all(x.count <= x.total for x in found if not x.inapplicable)
    assert answers.unreadable_rows(file).count == 0
    # A file leaks all of its own prompts.
    assert found[-2].share == (0 if found[-2].inapplicable else 1)
