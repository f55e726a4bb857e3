"""Reviews: each defect lowers its own feature, and a summary without any has all seven at 1."""

import numpy as np
import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.reviews import ReviewTask, examples

TASK = ReviewTask(
    "reviews of the lamp nova : summary :", "nova", "lamp",
    ((("price", True), ("look", False)), (("price", True), ("size", True)), (("size", False),)),
    (("price", "good"), ("look", "bad"), ("size", "mixed")),
)  # fmt: skip


@pytest.fixture(scope="module")
def tasks():
    return [shop.review_task(2, index) for index in range(300)]


def features(tasks, quality):
    return np.array(
        [
            shop.summary_features(task, shop.summary(1, task, i, quality))
            for i, task in enumerate(tasks)
        ]
    )


def test_task_is_a_function_of_seed_and_index(tasks):
    assert [shop.review_task(2, index) for index in (5, 299)] == [tasks[5], tasks[299]]
    assert shop.review_task(3, 5) != tasks[5]
    for task in tasks:
        assert {"good", "bad"} <= {view for _, view in task.views}
        assert 4 <= len(task.opinions) <= 6


def test_views_are_those_of_most_reviews(tasks):
    for task in tasks:
        for aspect, view in task.views:
            votes = [liked for review in task.opinions for a, liked in review if a == aspect]
            lead = 2 * sum(votes) - len(votes)
            assert view == ("good" if lead > 0 else "bad" if lead < 0 else "mixed")


def test_summary_without_defects_is_perfect(tasks):
    assert (features(tasks, 1.0) == 1.0).all()


@pytest.mark.parametrize("at", range(7))
def test_a_defect_lowers_its_feature_in_every_text(tasks, at):
    quality = [1.0] * 7
    quality[at] = 0.0
    assert (features(tasks, quality)[:, at] < 1.0).mean() > 0.95
    quality[at] = 1.0
    assert (features(tasks, quality)[:, at] == 1.0).all()


def test_features_rise_with_quality(tasks):
    means = np.array([features(tasks, quality).mean(0) for quality in (0.0, 0.3, 0.6, 1.0)])
    assert (np.diff(means, axis=0) > 0.0).all()


def test_features_by_hand():
    text = "nova in short : most buyers like the price . the look is praised ."
    assert shop.summary_features(TASK, text).tolist() == pytest.approx(
        [2 / 3, 1 / 2, 1 - 1 / 2, 1.0, 1.0, 1.0, 1.0]
    )
    text = "the price is praised . price the is praised . i like tea ."
    assert shop.summary_features(TASK, text).tolist() == pytest.approx(
        [1 / 3, 1.0, 1 / 2, 1.0, 1 / 3, 0.0, 0.0]
    )
    assert shop.summary_features(TASK, "").tolist() == [0.0] * 7
    assert shop.summary_features(TASK, "nova " * 90)[3] == 0.0
    two = "nova in short : vela in short : most buyers like the colour ."
    assert shop.summary_features(TASK, two).tolist() == pytest.approx(
        [0.0, 0.0, 1 / 2, 1.0, 1.0, 1.0, 0.0]
    )


@pytest.mark.parametrize("quality", [1.5, -0.1, float("nan"), [1.0] * 6 + [2.0]])
def test_quality_out_of_range_is_refused(tasks, quality):
    with pytest.raises(ValueError, match=r"quality must be in \[0, 1\]"):
        shop.summary(0, tasks[0], 0, quality)


def test_words_and_length(tasks):
    vocabulary = set(shop.words())
    for index, task in enumerate(tasks):
        for quality in (0.0, 0.5, 1.0):
            text = f"{task.text} {shop.summary(1, task, index, quality)}"
            assert set(text.split()) <= vocabulary
            assert " ".join(text.split()) == text
            assert len(text.split()) <= 384
    assert "coverage 1.00" in examples(0, 1)[0]
