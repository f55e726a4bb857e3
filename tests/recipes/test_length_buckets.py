"""Rows of text in buckets: the same tokens and pairs, in fewer columns."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from word_lab import VOCABULARY, word_lab

from rlhf_jax.algos import sft
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.recipes import answer_rows, length_buckets, padding_shares, pair_rows
from rlhf_jax.recipes.buckets import bucket_rows, by_length, token_lengths, training_buckets
from rlhf_jax.training import UserError

LAB = word_lab(prompt_length=4, answer_length=6)
RECORDS = [
    {"prompt": "red", "answer": "red"},
    {"prompt": "red", "answer": "green"},
    {"prompt": "red red", "answer": "red green blue grey"},
    {"prompt": "blue", "answer": "grey"},
    {"prompt": "red red red red", "answer": "red"},
]
# With <bos> and <eos>: (2, 2) (2, 2) (3, 5) (2, 2) (5, 2); the lab cuts the last prompt to 4.
BUCKETS = [(2, 2), (3, 5)]


def test_lengths_count_the_special_tokens():
    lengths = token_lengths(LAB, RECORDS)[:, 0]
    np.testing.assert_array_equal(lengths, [[2, 2], [2, 2], [3, 5], [2, 2], [5, 2]])
    pair = {"prompt": "red", "chosen": "red red", "rejected": "red"}
    np.testing.assert_array_equal(token_lengths(LAB, [pair]), [[[2, 3], [2, 2]]])


def test_buckets_are_chosen_from_the_records_and_cut_at_the_lab():
    # Sums 4 4 4 6 8 in groups of 3 and 2: the last prompt needs 4 of its 5 columns.
    assert length_buckets(LAB, RECORDS, count=2) == [(2, 2), (4, 5)]


def test_buckets_for_training_need_eight_batches_each():
    many = RECORDS * 16  # 80 records: 5 times 8 batches of 2, and 4 buckets at most
    assert training_buckets(LAB, many[:31], batch_size=2) is None
    assert training_buckets(LAB, many[:32], batch_size=2) == length_buckets(LAB, many[:32], count=2)
    assert training_buckets(LAB, many, batch_size=2) == length_buckets(LAB, many, count=4)
    narrow = LAB._replace(prompt_length=2, answer_length=2)
    assert training_buckets(narrow, RECORDS[:1] * 80, batch_size=2) is None  # nothing to save


def test_work_by_length_keeps_the_order_and_narrows_the_lab():
    seen = []

    def work(narrow, part):
        seen.append((narrow.prompt_length, narrow.answer_length, len(part)))
        return {"letters": np.array([len(row["prompt"] + row["answer"]) for row in part])}

    many = RECORDS * 7
    found = by_length(work, LAB, many, batch_size=2)["letters"]
    np.testing.assert_array_equal(found, [len(row["prompt"] + row["answer"]) for row in many])
    # 35 records in 2 parts of 18 and 17: 21 have (2, 2), the others (3, 5) and (4, 2).
    assert seen == [(2, 2, 18), (4, 5, 17)]


def test_padding_shares_by_hand():
    # Kept tokens: 4 + 4 + 8 + 4 + 6 = 26 of 5 * 10; in buckets of 4 + 4 + 8 + 4 + 10 = 30.
    shares = padding_shares(LAB, RECORDS, BUCKETS)
    np.testing.assert_allclose([shares["before"], shares["after"]], [24 / 50, 4 / 30])
    # One pair: 2 + 3 and 2 + 2 tokens, twice 10 columns before and twice (3 + 5) after.
    pair = {"prompt": "red", "chosen": "red red", "rejected": "red"}
    shares = padding_shares(LAB, [pair], BUCKETS)
    np.testing.assert_allclose([shares["before"], shares["after"]], [11 / 20, 7 / 16])


@pytest.mark.long
def test_an_epoch_has_every_token_once_and_one_program_per_bucket():
    update = sft.make_update(LAB.policy, optax.sgd(0.0))
    params = jnp.linspace(0.0, 1.0, VOCABULARY.size)
    state = init_state(params, optax.sgd(0.0))
    step: Any = jax.jit(lambda batch: update(state, batch)[1]["loss"])
    rows: Any = answer_rows(LAB, RECORDS, batch_size=2, buckets=BUCKETS)
    assert rows.steps_per_epoch == 2 + 1 + 1
    found = [step(rows[i]) for i in range(2 * rows.steps_per_epoch)]
    assert step._cache_size() == 3  # (2, 2), (3, 5) and, for the last record, the lab's (4, 6)
    whole = update(state, answer_rows(LAB, RECORDS, batch_size=5)[0])[1]["loss"]
    np.testing.assert_allclose(sum(loss.weight for loss in found), 2 * 13)
    np.testing.assert_allclose(sum(loss.total for loss in found), 2 * whole.total, rtol=1e-5)


def test_pairs_in_buckets_keep_their_reference_and_fill_up_with_weight_zero():
    pairs = [
        {"prompt": row["prompt"], "chosen": row["answer"], "rejected": "red"} for row in RECORDS
    ]
    # The reference of a pair is the length of its chosen answer, to be recognised by.
    refs = token_lengths(LAB, pairs)[:, 0, 1].astype(np.float32)
    reference = {"chosen": refs, "rejected": -refs}
    rows: Any = pair_rows(LAB, pairs, batch_size=2, reference=reference, buckets=BUCKETS)
    batches = [rows[i] for i in range(rows.steps_per_epoch)]
    assert sum(float(batch.weights.sum()) for batch in batches) == len(pairs)
    for batch in batches:
        np.testing.assert_array_equal(batch.ref_chosen_logps, batch.chosen.mask.sum(-1))
        np.testing.assert_array_equal(batch.ref_rejected_logps, -batch.ref_chosen_logps)
        assert batch.chosen.inputs.ids.shape == batch.rejected.inputs.ids.shape


def test_a_take_is_given_the_lengths_of_its_bucket():
    def take(lab, batch):
        return lab.prompt_length, lab.answer_length

    rows = bucket_rows(LAB, RECORDS, BUCKETS, take, batch_size=8)
    assert sorted(rows[i] for i in range(rows.steps_per_epoch)) == [*BUCKETS, (4, 6)]


@pytest.mark.parametrize("bucket", [(5, 2), (2, 7), (0, 2)])
def test_a_bucket_outside_the_lab_is_refused(bucket):
    with pytest.raises(UserError, match=r"buckets\[1\] must have 1 to 4 prompt columns and 1 to 6"):
        answer_rows(LAB, RECORDS, batch_size=2, buckets=[(2, 2), bucket])
