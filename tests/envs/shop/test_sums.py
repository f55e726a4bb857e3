"""Sums: every right answer is all right, and one slip is one step that does not follow."""

from collections import Counter

import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop import sums


@pytest.fixture(scope="module")
def tasks():
    return [shop.sum_task(2, index) for index in range(400)]


def test_task_is_a_function_of_seed_and_index(tasks):
    assert [shop.sum_task(2, index) for index in (5, 399)] == [tasks[5], tasks[399]]
    assert shop.sum_task(3, 5) != tasks[5]
    assert len({task.text for task in tasks}) == len(tasks)
    kinds = Counter(task.kind for task in tasks)
    assert set(kinds) == set(sums.SUM_KINDS)
    assert min(kinds.values()) > 80
    assert {task.difficulty for task in tasks} >= {3, 4, 5, 6, 9, 13}


def test_right_answer_is_right_in_every_step(tasks):
    for task in tasks:
        found = shop.score_sum(task, shop.sum_answer(task))
        assert all(step.right and step.follows for step in found.steps)
        assert len(found.steps) == task.difficulty
        assert found.first_error == -1
        assert found.right


def test_a_slip_is_the_first_error_and_the_only_step_that_does_not_follow(tasks):
    later, final = 0, Counter()
    for task in tasks:
        for wrong in range(task.difficulty):
            text = shop.sum_answer(task, wrong=wrong, seed=wrong)
            found = shop.score_sum(task, text)
            assert found.first_error == wrong
            assert [i for i, step in enumerate(found.steps) if not step.follows] == [wrong]
            later += sum(not step.right for step in found.steps[wrong + 1 :])
            final[task.kind, found.right] += 1
    assert later > 500
    assert final["total", True] == final["change", True] == 0
    assert final["pair", True] > 0  # a right end of wrong steps
    assert final["pair", False] > 0


def test_verdicts_by_hand(tasks):
    task = next(t for t in tasks if t.kind == "total" and len(t.names) == 2)
    (a, b), (x, y) = task.names, (task.price(name) for name in task.names)
    text = f"{a} costs {x} . {b} costs {y} . {x} and {y} make {x + y} . answer : {x + y} dollars ."
    assert shop.score_sum(task, text).right
    assert task.answers == (str(x + y),)
    spans = [text[step.start : step.end] for step in shop.score_sum(task, text).steps]
    assert " ".join(spans) == text
    assert shop.score_sum(task, f"answer : {x + y} dollars .").right
    assert not shop.score_sum(task, f"answer : {x + y} dollars .").steps[0].follows
    never = shop.score_sum(task, f"{x} and {y} make {x + y} .")
    assert (never.steps[0].right, never.steps[0].follows) == (False, False)
    assert not shop.score_sum(task, "").right
    odd = shop.score_sum(task, f"let me see . {text}")
    assert odd.steps[0].kind == "other"
    assert (odd.first_error, odd.right) == (-1, True)


def test_pairs_are_the_best_within_the_budget(tasks):
    for task in (each for each in tasks if each.kind == "pair"):
        stars = {
            f"{a.name} and {b.name}": a.stars + b.stars
            for a in task.shelves[0].products
            for b in task.shelves[1].products
            if a.price + b.price <= task.limit
        }
        best = {pair for pair, value in stars.items() if value == max(stars.values())}
        assert set(task.answers) == best


def test_wrong_step_out_of_range_is_refused(tasks):
    with pytest.raises(ValueError, match="wrong step 99 is out of range"):
        shop.sum_answer(tasks[0], wrong=99)


def test_words_and_length(tasks):
    vocabulary = set(shop.words())
    for task in tasks:
        for wrong in (None, *range(task.difficulty)):
            text = f"{task.text} {shop.sum_answer(task, wrong=wrong)}"
            assert set(text.split()) <= vocabulary
            assert " ".join(text.split()) == text
            assert len(text.split()) <= 384
    assert len(sums.examples(0, 3)) == 3
