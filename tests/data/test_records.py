"""Records with texts become records with messages; the example of the module runs."""

import doctest

from rlhf_jax.data import records
from rlhf_jax.data.records import Answer, Labelled, Pair, Ranking, in_one_form, with_messages

FRUIT = ({"role": "user", "content": "Name a fruit."},)
PLUM, CAR = (({"role": "assistant", "content": text},) for text in ("A plum.", "A car."))


def test_the_example_of_the_module_runs():
    results = doctest.testmod(records)
    assert (results.attempted > 0, results.failed) == (True, 0)


def test_a_text_is_one_user_message_and_a_dialogue_its_turns():
    assert with_messages(Pair("Name a fruit.", " A plum.", "A car.", 2.0)) == Pair(
        FRUIT, PLUM, CAR, 2.0
    )
    human, said = "\n\nHuman: Name a fruit.", "\n\nAssistant: A plum."
    again = with_messages(Labelled(f"{human}{said}{human}\n\nAssistant:", " A car.", False))
    assert again == Labelled((*FRUIT, *PLUM, *FRUIT), CAR, False)
    ranking = Ranking("Name a fruit.", ("A plum.", "A car."), (1.0, 0.0))
    assert with_messages(ranking).answers == (PLUM, CAR)


def test_a_document_stays_text():
    assert with_messages(Answer("", " Once.")) == Answer("", " Once.")


def test_records_of_a_file_have_one_form():
    texts = [Answer("Name a fruit.", "A plum.")]
    assert in_one_form(texts) == texts
    assert in_one_form([*texts, Answer(FRUIT, CAR)]) == [Answer(FRUIT, PLUM), Answer(FRUIT, CAR)]
