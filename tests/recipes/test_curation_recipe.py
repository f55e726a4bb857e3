"""Curation of texts: who is asked what, and the whole round on a small transformer."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import optax
import pytest
from word_lab import transformer_lab

from rlhf_jax.data.curation import curated_pairs
from rlhf_jax.data.records import Pair
from rlhf_jax.recipes import (
    Fit,
    PairConfidence,
    curate,
    judge_labels,
    lab_confidences,
    pair_rows,
    relabel_doubted,
    reward_model,
)
from rlhf_jax.recipes.offline import pair_scores
from rlhf_jax.training import UserError

GREENER = ("grey", "blue", "red", "green")  # a later word is better
PROMPTS = ("red", "green", "blue grey")


def known(*confidences):
    """A model with these confidences."""
    return lambda pairs: np.array(confidences[: len(pairs)])


def pool_of(labels):
    """Pairs of two words; a label False has them the wrong way round."""
    pairs = [
        Pair(prompt, better, worse)
        for prompt in PROMPTS
        for i, better in enumerate(GREENER)
        for worse in GREENER[:i]
    ]
    return [
        pair if right else pair._replace(chosen=pair.rejected, rejected=pair.chosen)
        for pair, right in zip(pairs, labels, strict=False)
    ]


def oracle(prompts, first, second):
    """The judge that knows."""
    return [float(GREENER.index(a) > GREENER.index(b)) for a, b in zip(first, second, strict=True)]


def test_judges_are_asked_only_where_the_best_model_doubts():
    pool, asked = pool_of([True, False, True, False]), []

    def judge(prompts, first, second):
        asked.extend({a, b} for a, b in zip(first, second, strict=True))
        return oracle(prompts, first, second)

    gold, best = known(0.9, 0.2, 0.9, 0.8), known(0.9, 0.4, 0.5, 0.7)
    assert isinstance(gold, PairConfidence)
    found = curate(pool, gold, best, [judge])
    assert asked == [{pool[i].chosen, pool[i].rejected} for i in (1, 2)]
    # The last pair is wrong: both models trust it, and nobody asks.
    assert found.signs.tolist() == [1, -1, 1, 1]
    assert found.counts == {"keep": 3, "flip": 1, "discard": 0, "relabel": 2, "unjudged": 0}
    asked.clear()
    every = curate(pool, gold, best, [judge], flip_discarded=True)
    assert asked == [{pool[2].chosen, pool[2].rejected}]
    assert every.signs.tolist() == [1, -1, 1, 1]
    doubted = relabel_doubted(pool, best, [judge])
    assert doubted.signs.tolist() == [1, -1, 1, 1]


def test_a_judge_that_prefers_what_it_sees_first_confirms_nothing():
    pool = pool_of([True] * 18) * 40
    prefs = judge_labels(pool, [lambda prompts, first, second: [1.0] * len(first)], samples=1)
    # 720 fair coins: 4 standard errors are 0.075.
    assert abs(prefs.mean() - 0.5) < 0.075
    np.testing.assert_array_equal(judge_labels(pool, [oracle], samples=3), 1.0)


def test_no_verdict_is_counted_and_discards_the_pair():
    pool = pool_of([True, False])
    mute = partial(relabel_doubted, pool, known(0.3, 0.9))
    found = mute([lambda prompts, first, second: [None] * len(first)])
    assert found.counts == {"keep": 1, "flip": 0, "discard": 1, "relabel": 1, "unjudged": 1}
    assert mute([oracle]).counts["keep"] == 2


def test_what_is_no_judge_is_named():
    pool = pool_of([True, False])
    with pytest.raises(UserError, match="must give a probability or None"):
        judge_labels(pool, [lambda prompts, first, second: [3.0] * len(first)])
    with pytest.raises(ValueError, match="at least one judge"):
        judge_labels(pool, [])
    with pytest.raises(ValueError, match="samples must be in"):
        judge_labels(pool, [oracle], samples=0)


@pytest.mark.long
def test_a_transformer_of_verified_pairs_curates_a_wrong_pool(stage):
    """The gold model is fitted to true labels; of the pool's labels a third are wrong."""
    lab = transformer_lab()
    right = np.arange(18) % 3 != 0
    verified, pool = pool_of([True] * 18), pool_of(right)

    def fitted(name, pairs, params):
        rows = pair_rows(lab, [pair._asdict() for pair in pairs], batch_size=6)
        fit = Fit(optax.adam(3e-2), steps=100)
        return reward_model(replace(stage, name=name, loops={}), lab, rows, params, fit)

    params = fitted("gold", verified, lab.reward.init(jax.random.key(0)))
    gold = partial(lab_confidences, lab, params, batch_size=5)
    scores = pair_scores(lab, params, [pair._asdict() for pair in pool], batch_size=4)
    expected = 1.0 / (1.0 + np.exp(-(scores[:, 0] - scores[:, 1]).astype(float)))
    np.testing.assert_allclose(gold(pool), expected, rtol=1e-5)
    swapped = [pair._replace(chosen=pair.rejected, rejected=pair.chosen) for pair in pool]
    np.testing.assert_allclose(gold(swapped), 1.0 - gold(pool), atol=1e-5)
    found = curate(pool, gold, gold, [oracle])
    np.testing.assert_array_equal(found.keep, right)
    np.testing.assert_array_equal(found.flip, ~right)
    curated = curated_pairs(pool, found)
    assert curated == verified
    after = fitted("final", curated, lab.reward.init(jax.random.key(1)))
    assert (lab_confidences(lab, after, verified) > 0.5).all()
