"""Several answers in a row: loss and gradient are those of the same answers one a row."""

import jax
import numpy as np
import pytest
from random_params import random_params
from word_lab import VOCABULARY, transformer_lab, word_lab

from rlhf_jax.algos.sft import make_objective
from rlhf_jax.models import TransformerConfig
from rlhf_jax.recipes import answer_rows, make_lab, pack_records
from rlhf_jax.recipes.buckets import row_lengths
from rlhf_jax.recipes.lab import encoded_cases, fitted_rows
from rlhf_jax.recipes.packing import packed_batch
from rlhf_jax.recipes.rows import answer_batch
from rlhf_jax.recipes.tokens import Case, side_case
from rlhf_jax.training import UserError

RECORDS = [
    {"prompt": "red", "answer": "red"},
    {"prompt": "red green blue", "answer": "green blue grey"},
    {"prompt": "red red", "answer": "red green"},
    {"prompt": "blue", "answer": "grey blue grey blue grey"},
    {"prompt": "grey", "answer": "blue red"},
]
# With <bos> and <eos>: 2 + 2, 4 + 4, 3 + 3, 2 + 6 and 2 + 3 tokens, 31 in all.
SIZES = {"d_model": 8, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "d_ff": 8}
FAMILIES = {
    "rope": {},
    "learned": {"positions": "learned", "max_positions": 10},
    "window": {"sliding_window": 3, "layer_windows": (True, False)},
}


def loss_and_gradient(lab, params, batch):
    def loss(params):
        mean = make_objective(lab.policy)(params, batch)[0]
        return mean.total / mean.weight

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.long
def test_packed_rows_have_the_loss_and_gradient_of_single_ones(family):
    """Learned positions: rows of 16 columns in a model of 10 positions, which begin anew."""
    config = TransformerConfig(vocab_size=VOCABULARY.size, **SIZES, **FAMILIES[family])
    lab = make_lab(config, VOCABULARY, prompt_length=4, answer_length=6)
    params = random_params(lab.policy.init)
    packs = pack_records(lab, RECORDS, columns=16)
    assert len(packs) == 3
    packed = packed_batch(lab, RECORDS, list(map(packs.__getitem__, range(3))), columns=16)
    loss, gradient = loss_and_gradient(lab, params, packed)
    want, want_gradient = loss_and_gradient(lab, params, answer_batch(lab, RECORDS))
    assert float(loss) == pytest.approx(float(want), rel=1e-6)
    assert max(float(abs(x).max()) for x in jax.tree.leaves(want_gradient)) > 0.01
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, want_gradient)


def test_a_packed_batch_by_hand():
    lab = word_lab(prompt_length=4, answer_length=6)
    batch = packed_batch(lab, RECORDS, [np.array([0, 2]), np.array([1])], columns=11)
    segments = np.array([[1] * 4 + [2] * 6 + [0], [1] * 8 + [0] * 3])
    np.testing.assert_array_equal(batch.inputs.segments, segments)
    np.testing.assert_array_equal(batch.valid, segments > 0)
    np.testing.assert_array_equal(batch.inputs.positions[0], [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 0])
    # Answers count: two tokens after a prompt of two, three after one of three.
    np.testing.assert_array_equal(np.flatnonzero(batch.mask[0]), [2, 3, 7, 8, 9])
    np.testing.assert_array_equal(np.flatnonzero(batch.mask[1]), [4, 5, 6, 7])
    alone = answer_batch(lab, RECORDS[:1])
    np.testing.assert_array_equal(batch.actions[0, 2:4], alone.actions[0][alone.mask[0]])


def test_an_epoch_of_packed_rows_has_every_answer_once():
    lab = word_lab(prompt_length=4, answer_length=6)
    packs = pack_records(lab, RECORDS, columns=10)
    rows = answer_rows(lab, RECORDS, batch_size=1, packs=packs)
    batches = [rows[step] for step in range(len(packs))]
    assert {batch.actions.shape for batch in batches} == {(1, 10)}
    assert sum(int(batch.mask.sum()) for batch in batches) == 2 + 4 + 3 + 6 + 3
    assert sum(int(batch.valid.sum()) for batch in batches) == 31


def test_lengths_are_those_after_the_labs_cuts():
    # The longest record has 4 + 4 tokens in a lab of 3 + 4, cut to 7 columns.
    assert pack_records(transformer_lab(3, 4), RECORDS, columns=7).columns == 7
    with pytest.raises(UserError, match="6 columns does not hold record 1, which has 7 tokens"):
        pack_records(transformer_lab(3, 4), RECORDS, columns=6)


def test_lengths_are_those_of_the_tokens_that_are_packed():
    lab = transformer_lab(3, 4)
    np.testing.assert_array_equal(row_lengths(lab, RECORDS)[:, 0], [2, 3, 3, 2, 2])
    cases = [side_case(record, "answer") for record in RECORDS]
    rows = encoded_cases(lambda given: fitted_rows(lab, given), cases)
    found = [(len(row.prompt), len(row.answer)) for row in rows]
    np.testing.assert_array_equal(found, row_lengths(lab, RECORDS))
    bad = [*cases, Case("<bos>", "red")]
    with pytest.raises(UserError, match="the record with the prompt '<bos>'"):
        encoded_cases(lambda given: fitted_rows(lab, given), bad)


def test_packs_and_buckets_exclude_each_other():
    lab = word_lab()
    packs = pack_records(lab, RECORDS, columns=16)
    with pytest.raises(ValueError, match="not both"):
        answer_rows(lab, RECORDS, batch_size=1, packs=packs, buckets=[(1, 1)])
