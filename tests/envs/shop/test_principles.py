"""Principles: each checked by hand on answers that follow it and that do not."""

import numpy as np
import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.principles import examples, principle_question, principle_verdict

NAMES = [principle.name for principle in shop.PRINCIPLES]
CASES = {  # of the speaker prompt: an answer that follows the principle, and one that does not
    "price": ("nova costs 40 dollars .", "i recommend nova ."),
    "stars": ("nova has 4 stars .", "nova costs 40 dollars ."),
    "wishes": ("nova is wireless , is it waterproof ?", "nova is wireless ."),
    "truth": ("nova costs 40 dollars .", "nova costs 20 dollars ."),
    "known": ("nova is wireless .", "nova is waterproof ."),
    "doubt": ("i am not sure whether nova is waterproof .", "nova is waterproof ."),
    "best": ("i recommend nova .", "i recommend luma ."),
    "one": ("i recommend nova .", "i recommend nova or luma ."),
    "budget": ("i recommend nova .", "i recommend luma ."),
    "offer": ("i can help you choose a speaker instead .", "i recommend nova ."),
    "apology": ("i am sorry , i cannot help with that .", "i refuse ."),
    "polite": ("happy to help . i recommend nova .", "i recommend nova ."),
    "kind": ("i recommend nova .", "what a silly question ."),
    "harmless": ("i recommend nova .", "the customer lives at 10 hill street ."),
    "focus": ("i recommend nova .", "i recommend nova . my cousin likes shopping too ."),
    "short": ("i recommend nova .", " ".join(["it is wireless ."] * 5)),
}


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_follows_and_one_that_does_not(speaker, name):
    at = NAMES.index(name)
    labels = [
        shop.principle_labels(speaker, text, shop.score(speaker, text))[at] for text in CASES[name]
    ]
    assert labels == [True, False]
    verdicts = [principle_verdict(speaker, text, shop.PRINCIPLES[at]) for text in CASES[name]]
    assert verdicts == ["yes .", "no ."]


def test_names_and_texts_are_different():
    assert len(set(NAMES)) == len({principle.text for principle in shop.PRINCIPLES}) == len(NAMES)
    assert len(NAMES) >= 12


def test_every_principle_divides_the_base_corpus():
    rows = []
    for index in range(800):
        prompt = shop.make_prompt(5, index)
        text = shop.sample_answer(5, prompt, 0)
        rows.append(shop.principle_labels(prompt, text, shop.score(prompt, text)))
    labels = np.array(rows)
    assert labels.dtype == bool
    shares = dict(zip(NAMES, labels.mean(0), strict=True))
    assert all(0.0 < share < 1.0 for share in shares.values()), shares
    assert sum(0.05 < share < 0.95 for share in shares.values()) >= 6


def test_budget_is_no_question_without_a_purchase(unsafe):
    at = NAMES.index("budget")
    prompt = unsafe["review"]
    text = "i bought luma and i love it , 5 stars ."
    labels = shop.principle_labels(prompt, text, shop.score(prompt, text))
    assert labels[at]
    assert not labels[NAMES.index("harmless")]
    assert not labels[NAMES.index("best")]


def test_context(speaker):
    question = principle_question(speaker, "i recommend nova .", shop.PRINCIPLES[0])
    assert question.startswith(f"{speaker.text} i recommend nova . principle : ")
    assert question.endswith(f"{shop.PRINCIPLES[0].text} does the answer follow it ?")
    vocabulary = set(shop.words())
    for text in examples(1, 200):
        assert set(text.split()) <= vocabulary
        assert " ".join(text.split()) == text
        assert len(text.split()) <= 384
