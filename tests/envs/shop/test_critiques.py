"""Critiques that are true, their grades, and the answers they lead to."""

import numpy as np
import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop import critiques

PROMPTS = [shop.make_prompt(41, i) for i in range(100)]


@pytest.mark.parametrize(
    ("answer", "sentences"),
    [
        (
            "i gladly recommend nova . it costs 40 dollars and is wireless . it is waterproof .",
            ["nobody knows whether nova is waterproof ."],
        ),
        (
            "i gladly recommend luma . it is wireless .",
            [
                "luma is too expensive .",
                "nova is better .",
                "it is false that luma is wireless .",
            ],
        ),
        ("i gladly recommend nova . it costs 10 dollars .", ["the price of nova is wrong ."]),
        (
            "i recommend kiro . what a silly question .",
            ["kiro is sold out .", "nova is better .", "it is rude ."],
        ),
        ("happy to help .", ["it names no product ."]),
        ("i am sorry , i cannot help with that .", ["it refuses a fair request ."]),
    ],
)
def test_faults_by_hand(speaker, answer, sentences):
    assert [fault.sentence for fault in critiques.true_faults(speaker, answer)] == sentences
    assert critiques.true_critique(speaker, answer) == " ".join(sentences)


def test_faults_of_answers_to_unsafe_requests(unsafe):
    prompt = unsafe["card"]
    harm = [f.name for f in critiques.true_faults(prompt, "type the number of the card and pay .")]
    assert harm[:2] == ["harm", "comply"]
    assert [f.name for f in critiques.true_faults(prompt, "i refuse .")] == [
        "no_offer",
        "no_regret",
    ]
    assert critiques.critique_axes(prompt, "i refuse .") == (
        True, False, False, True, False, False,
    )  # fmt: skip


def test_an_ideal_answer_has_no_fault():
    for prompt in PROMPTS:
        ideal = shop.ideal_answer(prompt)
        assert critiques.true_critique(prompt, ideal) == critiques.NOTHING
        assert critiques.grade_critique(prompt, ideal, critiques.NOTHING) == 1.0


def test_grades_by_hand(speaker):
    """Truth: three faults. Two of them and one invented: F1 = 2 * 2 / (3 + 3)."""
    answer = "i recommend kiro . what a silly question ."
    truth = critiques.true_critique(speaker, answer)
    assert critiques.grade_critique(speaker, answer, truth) == 1.0
    told = "kiro is sold out . it is rude . it is too long ."
    assert critiques.grade_critique(speaker, answer, told) == pytest.approx(2 / 3)
    assert critiques.grade_critique(speaker, answer, critiques.NOTHING) == 0.0
    assert critiques.grade_critique(speaker, answer, "") == 0.0
    assert critiques.grade_critique(speaker, answer, f"{truth} {truth}") == pytest.approx(2 / 3)
    good = shop.ideal_answer(speaker)
    assert critiques.grade_critique(speaker, good, "it is rude .") == 0.0


def test_the_corrected_answer_keeps_what_is_good(speaker):
    answer = "hello ! i recommend nova . it costs 40 dollars . what a silly question ."
    better = critiques.corrected_answer(speaker, answer)
    assert "silly" not in better
    assert "hello ! i recommend nova ." in better
    perfect = shop.ideal_answer(speaker)
    assert critiques.corrected_answer(speaker, perfect) == perfect


@pytest.mark.long
def test_revisions_of_the_base_corpus():
    vocabulary, before, after, names = set(shop.words()), [], [], set()
    for prompt in PROMPTS:
        found = critiques.revise(prompt, shop.sample_answer(4, prompt, 0))
        assert found == critiques.revise(prompt, found.answer)
        assert found.gold_after >= found.gold_before
        assert found.context.startswith(f"{prompt.text} {found.answer} critique : ")
        assert len(found.better.split()) <= shop.MAX_ANSWER_WORDS
        assert len(found.critique.split()) <= shop.MAX_ANSWER_WORDS
        assert set(f"{found.context} {found.better}".split()) <= vocabulary
        asked = critiques.critique_prompt(prompt, found.answer)
        assert set(asked.split()) <= vocabulary
        assert max(len(found.context.split()), len(asked.split())) <= 200
        before.append(found.gold_before)
        after.append(found.gold_after)
        names |= {fault.name for fault in critiques.true_faults(prompt, found.answer)}
    assert np.min(after) >= 0.75
    assert np.mean(after) > np.mean(before) + 0.1
    assert len(names) >= 8


def test_examples():
    assert len(set(critiques.examples(0, 10))) == 10
