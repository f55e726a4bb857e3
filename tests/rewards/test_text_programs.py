"""Programs of texts: variables by hand, and the spec `program:FILE` from file to score."""

import numpy as np
import pytest

from rlhf_jax.rewards import make_reward
from rlhf_jax.rewards.programs import (
    TEXT_FUNCTIONS,
    TEXT_GRAMMAR,
    TEXT_VARIABLES,
    ProgramError,
    load_text_program,
    parse_program,
    program_reward,
    text_program,
    text_variables,
)

ANSWER = "Yes! Is it 42? It's\n\nTHE answer, the answer."


def test_variables_by_hand():
    found = text_variables(["What is the answer?"], [ANSWER])
    assert found.keys() == TEXT_VARIABLES.keys()
    # Words: yes is it 42 it's the answer the answer, 7 different ones; "is", "the", "answer" asked.
    wanted = {
        "characters": len(ANSWER),
        "words": 9,
        "sentences": 3,
        "lines": 2,
        "unique_words": 7 / 9,
        "capitals": 6 / 28,
        "digits": 2,
        "questions": 1,
        "exclamations": 1,
        "prompt_words": 4,
        "shared_words": 5 / 9,
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], [value], err_msg=name)


def test_an_empty_answer_has_no_shares():
    found = text_variables(["?"], [""])
    assert {float(x[0]) for x in found.values()} == {0.0}


def test_messages_are_read_as_one_text():
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    assert text_variables([prompt], ["brief"])["prompt_words"] == [3.0]


SCORES = [
    ("count('answer')", 2.0),
    ("contains('YES') + contains('no')", 1.0),
    ("starts('yes')", 1.0),
    ("ends('answer.')", 1.0),
    ("starts('answer')", 0.0),
    ("2 * count('the') - words / 9", 3.0),
    ("def reward(words):\n    long = words > 3\n    return 1 - long, {'long': long}", 0.0),
]


@pytest.mark.parametrize(("source", "wanted"), SCORES)
def test_functions_of_a_text(source, wanted):
    assert program_reward(source)(["?"], [ANSWER]) == [wanted]


def test_every_function_of_texts_is_tried_above():
    assert all(any(f"{name}(" in source for source, _ in SCORES) for name in TEXT_FUNCTIONS)


def test_no_answers_have_no_rewards():
    assert program_reward("words")([], []) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("count(words)", r'count takes one text, as in count\("please"\)'),
        ("count('')", "count takes one text"),
        ("count('a', 'b')", "count takes one text"),
        ("count(open('x'))", "count takes one text"),
        ("length", "'length' is no variable; there are capitals, characters"),
        ("'a' * words", "'a' is no number"),
    ],
)
def test_what_is_no_program_of_texts_is_refused(source, message):
    with pytest.raises(ProgramError, match=message):
        text_program(source)


def test_a_number_that_is_not_finite_is_named_with_its_answer():
    reward = program_reward("1 / words", name="short.py")
    with pytest.raises(ProgramError, match=r"'short.py' gives inf to answer 1, '\.\.\.'"):
        reward(["?"] * 2, ["yes", "..."])


def test_a_program_in_a_file_is_a_reward_by_its_spec(tmp_path):
    path = tmp_path / "brief.py"
    path.write_text("# short answers\ndef reward(words):\n    return -words / 4\n")
    made = make_reward(f"program:{path}")
    assert (made.name, made.wanted) == ("brief", None)
    assert made.reward(["?"] * 2, ["a b", "a"], other=[1, 2]) == [-0.5, -0.25]
    assert load_text_program(path) == text_program("-words / 4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os", "bad.py: line 1: a program imports nothing"),
        ("def reward(words):\n    while 1: pass\n    return words", "bad.py: line 2: .* no loops"),
        ("open('x').read()", "bad.py: line 1: open.* is no function"),
        ("def reward(", "bad.py: line 1: the program does not compile"),
        (None, "bad.py: .*No such file"),
        (b"\xff\xfe", "bad.py: .*codec"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    path = tmp_path / "bad.py"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        make_reward(f"program:{path}")


def test_the_grammar_of_texts_is_made_of_programs():
    assert TEXT_GRAMMAR.variables == tuple(TEXT_VARIABLES)
    for term in TEXT_GRAMMAR.terms:
        parse_program(term, TEXT_GRAMMAR.variables)
