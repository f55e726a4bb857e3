"""Records of ranked answers: order, length, ties, what is refused, and one fit by each loss."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from word_lab import GREEN, RED, VOCABULARY, share_of, word_lab

from rlhf_jax.losses.preference import pl_dpo_loss, pro_loss
from rlhf_jax.losses.reward import plackett_luce_loss
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.recipes import (
    Fit,
    ranked_records,
    ranking,
    ranking_reference,
    ranking_rows,
    score_range,
    tied_answers,
)
from rlhf_jax.recipes.buckets import token_lengths
from rlhf_jax.recipes.rankings import ScoreRange
from rlhf_jax.recipes.tokens import flat_answers
from rlhf_jax.training import UserError

RECORDS = [
    {"prompt": "red", "answers": ["green", "red", "blue"], "scores": [1.0, 5.0, 3.0]},
    {"prompt": "blue", "answers": ["red green", "green"], "scores": [4.0, 2.0]},
    {"prompt": "grey", "answers": ["blue", "red", "green"], "scores": [3.0, 3.0, 1.0]},
]


def test_answers_are_sorted_and_short_lists_filled_up():
    found = ranked_records(RECORDS)
    assert found[0]["answers"] == ["red", "blue", "green"]
    assert found[0]["scores"] == [5.0, 3.0, 1.0]
    assert found[1]["answers"] == ["red green", "green", "green"]
    assert found[1]["kept"] == [True, True, False]
    assert found[2]["answers"] == ["blue", "red", "green"]  # a tie stays in the order of the row
    assert tied_answers(found) == 1
    assert score_range(found) == ScoreRange(1.0, 5.0)
    assert [row["answer"] for row in flat_answers(found[:1])] == ["red", "blue", "green"]
    # a prompt of one word; an answer and its stop token
    assert token_lengths(word_lab(), found)[:, :, 1].tolist() == [[2, 2, 2], [3, 2, 2], [2, 2, 2]]


def test_long_lists_keep_the_best_the_worst_and_others_between():
    row = {"prompt": "p", "answers": list("abcdefg"), "scores": [3, 1, 4, 7, 5, 9, 2]}
    # best first: f d e c a g b
    assert ranked_records([row], most=3)[0]["answers"] == ["f", "c", "b"]
    assert ranked_records([row], most=2)[0]["scores"] == [9, 1]
    with pytest.raises(ValueError, match="most must be in"):
        ranked_records([row], most=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": ["red"], "scores": [1.0]}, "record 0: a ranking needs two or more answers"),
        ({"scores": [1.0, 2.0]}, "record 0: 2 scores for 3 answers"),
        ({"scores": [1.0, float("nan"), 2.0]}, "record 0: scores must be finite numbers, got nan"),
        ({"scores": [1.0, None, 2.0]}, "record 0: scores must be finite numbers, got None"),
    ],
)
def test_a_record_that_is_no_ranking_is_named(change, message):
    with pytest.raises(UserError, match=message):
        ranked_records([RECORDS[0] | change])


def test_scores_that_are_all_equal_rank_nothing():
    with pytest.raises(UserError, match="all 3 scores of the rankings are equal"):
        score_range([RECORDS[0] | {"scores": [2.0, 2.0, 2.0]}])


def test_a_batch_has_scores_in_their_range_and_counts_what_ranks_something():
    lab, records = word_lab(), ranked_records(RECORDS)
    batch = ranking_rows(lab, records, batch_size=3, scale=score_range(records))[0]
    order = np.argsort(np.asarray(batch.scores[:, 1]))  # 0.25 of blue, 0.5 of red, 0.5 of grey
    np.testing.assert_allclose(batch.scores[order[0]], [0.75, 0.25, 0.0])
    assert batch.mask.sum() == 8
    assert batch.weights.tolist() == [1.0, 1.0, 1.0]
    strict = ranking_rows(lab, records, batch_size=3, ties=False)[0]
    assert strict.mask.sum() == 7


def test_a_reference_of_other_records_is_refused():
    records = ranked_records(RECORDS)
    with pytest.raises(UserError, match="reference must have 3 lists, got 2"):
        ranking_rows(word_lab(), records, batch_size=3, reference=np.zeros((2, 3)))


@pytest.mark.long
@pytest.mark.parametrize("name", ["pro", "plackett_luce", "pl_dpo"])
def test_each_loss_makes_the_best_word_likely(stage, name):
    lab, records = word_lab(), ranked_records(RECORDS[:1])
    uniform = jnp.zeros(VOCABULARY.size)
    loss, reads, logps = {
        "pro": (pro_loss, ("scores",), sequence_logps),
        "plackett_luce": (plackett_luce_loss, (), sequence_logps),
        "pl_dpo": (partial(pl_dpo_loss, beta=1.0), ("ref_logps",), sequence_logps),
    }[name]
    reference = None
    if "ref_logps" in reads:
        reference = ranking_reference(lab, uniform, records, batch_size=2)
        # a word and the stop token
        np.testing.assert_allclose(reference, np.full((1, 3), -2 * np.log(VOCABULARY.size)), 1e-6)
    given = {"scale": score_range(records), "reference": reference}
    rows = ranking_rows(lab, records, batch_size=1, **given)
    fit = Fit(optax.sgd(0.5), steps=4)
    options = {"loss": loss, "reads": reads, "logps": logps}
    params = ranking(stage, lab, rows, uniform, fit, **options)
    assert share_of(RED, params) > 1.2 * share_of(RED, uniform)
    assert share_of(GREEN, params) < share_of(GREEN, uniform)
    assert bool(jnp.isfinite(jax.tree.leaves(params)[0]).all())
