"""A language model that reads the principle: records, rows, training, scores chosen later."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops.ensembles import mean_scores, worst_case_scores
from rlhf_jax.recipes import (
    Fit,
    asked_records,
    make_lab,
    principle_model,
    principle_rows,
    scores_by_principle,
)
from rlhf_jax.recipes.principles import asked_prompt, log_odds, principle_batch, principle_label
from rlhf_jax.training import UserError, open_run, run_stage

VOCABULARY = standard_vocabulary(train_word_tokenizer(["ask principle : red blue"]))
SIZE = {"d_model": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "d_ff": 8}
LAB = make_lab(
    TransformerConfig(vocab_size=VOCABULARY.size, **SIZE),
    VOCABULARY,
    prompt_length=6,
    answer_length=3,
)


def record(answer, principle, label=None):
    known = answer == principle if label is None else label
    return {"prompt": "ask", "answer": answer, "principle": principle, "label": known}


RECORDS = [record(answer, asked) for answer in ("red", "blue") for asked in ("red", "blue")]


def test_the_principle_ends_the_prompt_or_its_last_message():
    assert asked_prompt("ask", "be {prompt}") == "ask principle : be {prompt}"
    said = ({"role": "system", "content": "s"}, {"role": "user", "content": "ask"})
    found = asked_prompt(said, "red")
    assert found[0] == said[0]
    assert found[1] == {"role": "user", "content": "ask principle : red"}
    with pytest.raises(UserError, match="the last message must be a text"):
        asked_prompt([{"role": "assistant", "content": None}], "red")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record("red", None), "prompt 'ask' has no principle: write it"),
        (record("red", "  "), "has no principle"),
        (record("red", "red", label=2), "the label must be true or false, .* got 2"),
        (record("red", "red", label=0.5), "got 0.5"),
        (record("red", "red", label="yes"), "got 'yes'"),
    ],
)
def test_records_without_a_principle_or_a_verdict_are_named(bad, message):
    with pytest.raises(UserError, match=message):
        asked_records([RECORDS[0], bad])


def test_a_batch_has_the_principle_in_its_prompts():
    batch = principle_batch(LAB, asked_records(RECORDS))
    np.testing.assert_array_equal(batch.labels, [True, False, False, True])
    assert batch.principles is None
    ids = np.asarray(batch.answers.inputs.ids)
    # The prompts of one principle are equal, those of two differ in their last word.
    np.testing.assert_array_equal(ids[0, :6], ids[2, :6])
    np.testing.assert_array_equal(ids[0, :5], ids[1, :5])
    assert ids[0, 5] != ids[1, 5]


@pytest.mark.long
def test_a_model_learns_to_read_the_principle(tmp_path):
    rows = principle_rows(LAB, asked_records(RECORDS), batch_size=4)
    first = LAB.reward.init(jax.random.key(0))
    fit = Fit(optax.adam(0.03), steps=150)
    with open_run(tmp_path / "run", slug="principles", config={}) as run:
        params = run_stage(
            run, "principles", lambda stage: (principle_model(stage, LAB, rows, first, fit), {})
        ).arrays
    scores = scores_by_principle(LAB, params, ["ask"] * 2, ["red", "blue"], ["red", "blue"])
    np.testing.assert_array_equal(scores > 0, [[True, False], [False, True]])
    # Best of two answers under a principle chosen now; no answer follows both.
    np.testing.assert_array_equal(scores.argmax(1), [0, 1])
    assert (worst_case_scores(jnp.asarray(scores)) < 0).all()
    np.testing.assert_allclose(mean_scores(jnp.asarray(scores)), scores.mean(0), rtol=1e-6)


@pytest.mark.long
def test_without_a_principle_it_is_the_chance_of_a_reaction(tmp_path):
    """P[Love]: three of four red answers have a heart, one of four blue ones."""
    rows = [
        {"prompt": "ask", "answer": colour, "label": (n < 3) == (colour == "red")}
        for colour in ("red", "blue")
        for n in range(4)
    ]
    first, fit = LAB.reward.init(jax.random.key(0)), Fit(optax.adam(0.03), steps=60)
    batches = principle_rows(LAB, rows, batch_size=8)
    with open_run(tmp_path / "run", slug="reactions", config={}) as run:
        params = run_stage(
            run, "reactions", lambda stage: (principle_model(stage, LAB, batches, first, fit), {})
        ).arrays
    scores = log_odds(LAB, params, rows, batch_size=8)
    np.testing.assert_allclose(scores[::4], [np.log(3), -np.log(3)], atol=0.1)


def test_a_label_is_true_or_false_about_a_principle_in_words():
    assert principle_label(record("red", "blue")) == ("blue", False)
    assert principle_label(record("red", "red")) == ("red", True)
    with pytest.raises(UserError, match="the label must be true or false"):
        principle_label(record("red", "blue", label=2))
    with pytest.raises(UserError, match='write it, in words, into "principle"'):
        principle_label({"prompt": "ask", "answer": "red", "principle": " ", "label": True})
