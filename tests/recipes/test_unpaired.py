"""Single labelled answers: mismatched partners, rows, and one fit by each method."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from word_lab import GREEN, RED, VOCABULARY, share_of, transformer_lab, word_lab

from rlhf_jax.losses.preference import apo_zero_unpaired_loss, kto_loss
from rlhf_jax.recipes import (
    Fit,
    bco,
    dro,
    labelled_rows,
    reference_logps,
    unpaired,
    with_mismatched,
)
from rlhf_jax.recipes.rows import side_batch
from rlhf_jax.sharding import make_mesh
from rlhf_jax.training import UserError

RECORDS = [
    {"prompt": "red", "answer": "red", "label": True, "score": 1.0},
    {"prompt": "green", "answer": "green", "label": False, "score": -1.0},
    {"prompt": "blue", "answer": "red red", "label": True, "score": 1.0},
    {"prompt": "grey", "answer": "green red green", "label": False, "score": -1.0},
]
FIT = Fit(optax.sgd(0.5), steps=4)


def test_a_mismatched_answer_is_the_nearest_one_before_to_another_prompt():
    rows = [{"prompt": p, "answer": a} for p, a in zip("aabc", "1234", strict=True)]
    # The first two have one prompt, so both take the last answer; then "2" to b and "3" to c.
    assert [row["mismatched"] for row in with_mismatched(rows)] == ["4", "4", "2", "3"]
    assert "mismatched" not in rows[0]


def test_one_prompt_has_no_mismatched_answers():
    with pytest.raises(UserError, match="two different prompts, got 2 records of 1"):
        with_mismatched([{"prompt": "a", "answer": "1"}, {"prompt": "a", "answer": "2"}])


@pytest.mark.long
def test_rows_carry_labels_reference_and_mismatched_answers():
    lab, records = word_lab(), with_mismatched(RECORDS)
    uniform = jnp.zeros(VOCABULARY.size)
    reference = reference_logps(lab, uniform, records, batch_size=3)
    # Every token, the stop id included, has probability 1/V: 2, 2, 3 and 4 tokens.
    each = -np.log(VOCABULARY.size)
    np.testing.assert_allclose(reference["answer"], each * np.array([2, 2, 3, 4]), rtol=1e-6)
    np.testing.assert_allclose(reference["mismatched"], each * np.array([4, 2, 2, 3]), rtol=1e-6)
    batch = labelled_rows(lab, records, batch_size=4, reference=reference)[0]
    lengths = np.asarray(batch.answers.mask.sum(-1))
    np.testing.assert_allclose(batch.ref_logps, each * lengths, rtol=1e-6)
    other = np.asarray(batch.mismatched.mask.sum(-1))
    np.testing.assert_allclose(batch.ref_mismatched_logps, each * other, rtol=1e-6)
    first_words = np.asarray(batch.answers.actions[:, 0])
    np.testing.assert_array_equal(batch.labels, first_words == RED)
    scored = labelled_rows(lab, RECORDS, batch_size=4, reference=reference, label="score")
    assert scored[0].labels.dtype == jnp.float32


@pytest.mark.parametrize("label", [None, "good", float("nan")])
def test_a_record_without_a_usable_label_is_named(label):
    records = [RECORDS[0], RECORDS[1] | {"label": label}]
    with pytest.raises(UserError, match=r"record 1: field 'label' must be true or false"):
        labelled_rows(word_lab(), records, batch_size=2, reference={"answer": np.zeros(2)})


@pytest.mark.parametrize("found", [{}, {"mismatched": np.zeros(3)}])
def test_a_reference_of_other_records_is_refused(found):
    reference = {"answer": np.zeros(4)} | found
    with pytest.raises(UserError, match=r"must have 'mismatched' for 4 records, got [03]"):
        labelled_rows(word_lab(), with_mismatched(RECORDS), batch_size=2, reference=reference)


@pytest.mark.long
def test_kto_fits_a_transformer(stage):
    """The desirable answers gain on the others."""
    lab, records = transformer_lab(), with_mismatched(RECORDS)
    start = lab.policy.init(jax.random.key(0))
    reference = reference_logps(lab, start, records, batch_size=4)
    rows = labelled_rows(lab, records, batch_size=4, reference=reference)
    loss = partial(kto_loss, beta=1.0)
    params = unpaired(stage, lab, rows, start, FIT, loss=loss, mismatched=True)
    gains = reference_logps(lab, params, records, batch_size=4)["answer"] - reference["answer"]
    assert min(gains[[0, 2]]) > max(gains[[1, 3]])


@pytest.mark.long
@pytest.mark.parametrize("method", ["apo", "bco", "dro"])
def test_the_word_of_the_good_answers_gains(stage, method):
    lab, start = word_lab(), jnp.zeros(VOCABULARY.size)
    reference = reference_logps(lab, start, RECORDS, batch_size=4)
    label = "score" if method == "dro" else "label"
    rows = labelled_rows(lab, RECORDS, batch_size=2, reference=reference, label=label)
    fits = {
        "apo": partial(unpaired, loss=partial(apo_zero_unpaired_loss, beta=1.0)),
        "bco": partial(bco, beta=1.0),
        "dro": partial(dro, beta=1.0, critic=jnp.zeros(())),
    }
    fit = Fit(optax.sgd(0.1), steps=4, parts=2)
    params = fits[method](stage, lab, rows, start, fit)
    assert share_of(RED, params) > 1 / VOCABULARY.size > share_of(GREEN, params)


def test_sides_answer_the_same_prompts():
    batch = side_batch(word_lab(), with_mismatched(RECORDS), ["answer", "mismatched"])
    prompts = [np.asarray(each.inputs.ids[:, :3]) for each in batch.values()]
    np.testing.assert_array_equal(*prompts)


@pytest.mark.long
def test_the_running_mean_is_the_same_on_eight_devices(stage):
    start = jnp.zeros(VOCABULARY.size)
    records = RECORDS * 2
    reference = reference_logps(word_lab(), start, records, batch_size=8)
    found = []
    for mesh in (None, make_mesh()):
        lab = word_lab()._replace(mesh=mesh)
        rows = labelled_rows(lab, records, batch_size=8, reference=reference)
        here = replace(stage, name=f"mesh {mesh is not None}", loops={})
        found.append(bco(here, lab, rows, start, FIT._replace(steps=2), beta=1.0))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
