"""Comparisons: exactly the wrong, idle and repeated segments that were asked for."""

from collections import Counter

import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.comparisons import MAX_CLAIMS, Said, claim_truth, examples, read_claim


@pytest.fixture(scope="module")
def tasks():
    return [shop.comparison_prompt(2, index) for index in range(300)]


def test_prompt_is_a_function_of_seed_and_index(tasks):
    assert [shop.comparison_prompt(2, index) for index in (5, 299)] == [tasks[5], tasks[299]]
    assert shop.comparison_prompt(3, 5) != tasks[5]
    assert len({task.text for task in tasks}) == len(tasks)
    assert {len(task.names) for task in tasks} == {2, 3, 4}


@pytest.mark.parametrize("wrong", [0, 1, 3, 6])
def test_exactly_k_wrong_claims(tasks, wrong):
    for index, task in enumerate(tasks):
        idle, repeats = index % 3, index % 2
        text, segments = shop.comparison_answer(
            1, task, index, wrong=wrong, idle=idle, repeats=repeats
        )
        labels = Counter(segment.label for segment in segments)
        assert labels["false"] + labels["unknown"] == wrong
        assert (labels["idle"], labels["repeat"]) == (idle, repeats)
        assert 3 <= labels["true"] + wrong <= MAX_CLAIMS
        assert len(text.split()) <= 120
        for segment in segments:
            assert text[segment.end : segment.end + 2] in (" .", " ,")
            assert read_claim(text[segment.start : segment.end]) == segment.claim


def test_answer_is_a_function_of_its_arguments(tasks):
    first = [shop.comparison_answer(1, task, 0, wrong=1)[0] for task in tasks]
    assert first == [shop.comparison_answer(1, task, 0, wrong=1)[0] for task in tasks]
    again = [shop.comparison_answer(1, task, 1, wrong=1)[0] for task in tasks]
    assert sum(a != b for a, b in zip(first, again, strict=True)) > 290


def test_marks_by_hand(tasks):
    task = next(t for t in tasks if len(t.names) == 2 and {"price", "stars"} <= set(t.aspects))
    a, b = task.names
    price = task.product(a).price
    text = f"{a} costs {price} dollars , {a} costs {price} dollars . hello . {b} costs 95 dollars ."
    found = shop.score_comparison(task, text)
    assert [s.label for s in found.segments] == ["true", "repeat", "idle", "false"]
    assert found.factuality == 0.5
    assert found.relevance == 0.5
    assert found.coverage == pytest.approx(1 / 6)
    assert shop.score_comparison(task, "")[1:] == (1.0, 0.0, 0.0)


def test_claims_of_the_unknown_and_the_absent(tasks):
    cases = [
        (task, product, feature)
        for task in tasks
        for product in task.shelf.products
        for feature in task.shelf.shown
    ]
    seen = Counter()
    for task, product, feature in cases:
        shown = product.shown_value(feature)
        truths = [claim_truth(task, Said(k, product.name, feature)) for k in ("yes", "no", "open")]
        assert (
            truths
            == {
                True: ["true", "false", "false"],
                False: ["false", "true", "false"],
                None: ["unknown", "unknown", "true"],
            }[shown]
        )
        seen[shown] += 1
    assert min(seen.values()) > 100
    assert claim_truth(tasks[0], Said("price", "nobody", "40")) == "false"
    assert read_claim("nova is cheap") is None
    assert read_claim("nova costs many dollars") is None


def test_too_many_wrong_claims_are_refused(tasks):
    with pytest.raises(ValueError, match="wrong = 9 is out of range"):
        shop.comparison_answer(0, tasks[0], 0, wrong=9)


def test_words_and_length(tasks):
    vocabulary = set(shop.words())
    for index, task in enumerate(tasks):
        answer, _ = shop.comparison_answer(1, task, index, wrong=2, idle=2, repeats=1)
        text = f"{task.text} {answer}"
        assert set(text.split()) <= vocabulary
        assert " ".join(text.split()) == text
        assert len(text.split()) <= 384
    assert "segments: " in examples(0, 1)[0]
