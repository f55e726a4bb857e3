"""The shop as a task: disjoint prompts, gold among its scores, a teacher by gold."""

from itertools import pairwise

import jax
import numpy as np

from rlhf_jax.envs import shop
from rlhf_jax.labs.shop import SPLITS, gold_teacher, shop_task
from rlhf_jax.recipes import overall, score_answers

INDICES = np.array(SPLITS["train"][:4])


def answers(k: int) -> list[str]:
    return [shop.sample_answer(0, shop.make_prompt(0, int(i)), k) for i in INDICES]


def test_no_prompt_is_in_two_splits():
    ends = sorted((numbers.start, numbers.stop) for numbers in SPLITS.values())
    assert all(stop <= start for (_, stop), (start, _) in pairwise(ends))


def test_the_objective_is_gold_and_the_axes_are_beside_it():
    task = shop_task(0)
    texts = answers(0)
    scores = score_answers(task, INDICES, texts)
    gold = [shop.score(shop.make_prompt(0, int(i)), t) for i, t in zip(INDICES, texts, strict=True)]
    np.testing.assert_array_equal(overall(task, scores), [one.overall for one in gold])
    np.testing.assert_allclose(scores["honest"], [one.honest for one in gold], rtol=1e-6)


def test_the_teacher_prefers_gold_and_leaves_ties_out():
    """At a large inverse temperature the winner has the higher gold score."""
    teacher = gold_teacher(0, beta=1e6, tie_gap=0.0)
    first = answers(0)
    labels = teacher(jax.random.key(0), INDICES, first, first)
    assert not labels.kept.any()
    labels = teacher(jax.random.key(0), INDICES, first, [""] * 4)
    gaps = labels.columns["gold_chosen"] - labels.columns["gold_rejected"]
    assert (gaps[labels.kept] > 0).all()
    assert labels.kept.any()
