"""Records of text as batches, in their order and in chunks."""

import jax.numpy as jnp
import numpy as np
import pytest
from word_lab import GREEN, RED, VOCABULARY, word_lab

from rlhf_jax.recipes import answer_rows, array_rows, pair_rows, reference_logps
from rlhf_jax.recipes.rows import answer_batch, check_reference, halves, in_chunks, pair_batch
from rlhf_jax.training import UserError

LAB = word_lab()
BOS, STOP, PAD = VOCABULARY.bos_id, VOCABULARY.stop_ids[0], VOCABULARY.pad_id


def test_a_batch_pads_prompts_left_and_answers_right():
    batch = answer_batch(LAB, [{"prompt": "red", "answer": "green red"}])
    np.testing.assert_array_equal(batch.inputs.ids, [[PAD, BOS, RED, GREEN, RED, STOP, PAD]])
    np.testing.assert_array_equal(batch.mask, [[True, True, True, False]])


def test_pairs_answer_the_same_prompts_side_by_side():
    pairs = pair_batch(LAB, [{"prompt": "red", "chosen": "green", "rejected": "red"}])
    both = halves(pairs)
    np.testing.assert_array_equal(both.actions, [[[GREEN, STOP, PAD, PAD], [RED, STOP, PAD, PAD]]])
    np.testing.assert_array_equal(both.inputs.ids[:, 0, :3], both.inputs.ids[:, 1, :3])
    assert pairs.ref_chosen_logps is None


def test_rows_of_arrays_come_once_an_epoch_in_an_order_of_the_seed():
    data = {"x": np.arange(6), "y": 10 * np.arange(6)}
    found = [array_rows(data, batch_size=2, seed=1)[i] for i in range(3)]
    order = np.concatenate([batch["x"] for batch in found])
    assert sorted(order) == list(range(6))
    np.testing.assert_array_equal(np.concatenate([batch["y"] for batch in found]), 10 * order)
    again = [array_rows(data, batch_size=2, seed=2)[i]["x"] for i in range(3)]
    assert not np.array_equal(np.concatenate(again), order)


def test_chunks_have_one_size_and_give_every_record_once():
    sizes = []

    def double(part):
        sizes.append(len(part))
        return {"twice": jnp.array([2 * row["x"] for row in part])}

    found = in_chunks(double, [{"x": x} for x in range(5)], size=2)
    np.testing.assert_array_equal(found["twice"], [0, 2, 4, 6, 8])
    assert sizes == [2, 2, 2]


def test_without_buckets_every_batch_has_the_lengths_of_the_lab():
    records = [{"prompt": "red", "answer": "red"}, {"prompt": "red", "answer": "red " * 9}]
    batch = answer_rows(LAB, records, batch_size=2)[0]
    assert batch.inputs.ids.shape == (2, LAB.prompt_length + LAB.answer_length)


def test_a_record_without_a_field_names_both():
    with pytest.raises(UserError, match=r"no field 'answer'; its fields are \['prompt', 'text'\]"):
        answer_batch(LAB, [{"prompt": "red", "text": "green"}])


def test_chunks_of_no_records_are_refused():
    with pytest.raises(ValueError, match=r"records must be in \[1, inf\), got 0"):
        in_chunks(len, [], size=2)


PAIRS = [{"prompt": "red", "chosen": "green", "rejected": "red"}] * 3


@pytest.mark.parametrize("count", [2, 4])
def test_a_reference_of_other_pairs_is_refused(count):
    reference = dict.fromkeys(("chosen", "rejected"), np.zeros(count))
    with pytest.raises(UserError, match=f"must have 'chosen' for 3 records, got {count}"):
        pair_rows(LAB, PAIRS, batch_size=2, reference=reference)
    check_reference(reference, PAIRS[:1] * count, ("chosen", "rejected"))


def test_a_reference_of_no_records_is_refused():
    with pytest.raises(ValueError, match=r"records must be in \[1, inf\), got 0"):
        reference_logps(LAB, jnp.zeros(VOCABULARY.size), [], batch_size=2)


@pytest.mark.parametrize("buckets", [None, [(2, 2), (3, 4)]])
def test_pairs_have_a_weight_for_each_member_of_an_ensemble(buckets):
    """In each of three batches of two one pair is the filler of a bucket, or none without them."""
    pairs = [{"prompt": "red", "chosen": "red", "rejected": "green"}] * 3
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], np.float32)
    rows = pair_rows(LAB, pairs, batch_size=2, columns={"weights": weights}, buckets=buckets)
    found = [np.asarray(rows[i].weights) for i in range(2 if buckets else 3)]
    assert {x.shape for x in found} == {(2, 2)}
    total = np.sum(found, axis=(0, 1))
    np.testing.assert_array_equal(total, weights.sum(0) * (1 if buckets else 2))
