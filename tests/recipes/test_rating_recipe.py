"""Ratings of texts: units, batches, and a language model with a head for each."""

from functools import partial

import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.recipes import Fit, first_heads, make_lab
from rlhf_jax.recipes.ratings import (
    RatingUnits,
    known_ratings,
    rating_batch,
    rating_model,
    rating_rows,
    rating_scores,
    rating_units,
    standard_ratings,
)
from rlhf_jax.training import UserError, open_run, run_stage

VOCABULARY = standard_vocabulary(train_word_tokenizer(["say red green blue grey"]))
SIZE = {"d_model": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "d_ff": 8}
LAB = make_lab(
    TransformerConfig(vocab_size=VOCABULARY.size, **SIZE),
    VOCABULARY,
    prompt_length=2,
    answer_length=3,
)


def row(answer, **ratings):
    return {"prompt": "say", "answer": answer, "ratings": ratings}


RECORDS = [row("red", warm=5, long=1), row("blue", warm=1), row("grey red", warm=3, long=3)]


def test_ratings_are_in_deviations_from_their_means():
    """Warm: 5, 1, 3, mean 3 and variance 8 / 3. Long: 1 and 3, mean 2 and deviation 1."""
    units = rating_units(RECORDS, ["warm", "long"])
    np.testing.assert_allclose(units.means, [3.0, 2.0])
    np.testing.assert_allclose(units.deviations, [(8 / 3) ** 0.5, 1.0])
    ratings, mask = standard_ratings(RECORDS, units)
    np.testing.assert_array_equal(mask, [[True, True], [True, False], [True, True]])
    np.testing.assert_allclose(ratings[:, 1], [-1.0, 0.0, 1.0])
    np.testing.assert_allclose(ratings[:, 0], np.array([2, -2, 0]) / (8 / 3) ** 0.5)
    np.testing.assert_array_equal(known_ratings(RECORDS, ["long"])[0], [[1.0], [0.0], [3.0]])
    batch = rating_batch(LAB, RECORDS, units=units)
    np.testing.assert_array_equal(batch.mask, mask)
    assert batch.answers.actions.shape == (3, 3)


def test_a_rating_that_says_nothing_is_named():
    with pytest.raises(UserError, match="none of the 3 rows has the rating 'kind'"):
        rating_units(RECORDS, ["kind"])
    same = [row("red", warm=2), row("blue", warm=2)]
    with pytest.raises(UserError, match="all 2 ratings 'warm' are 2: there is nothing to learn"):
        rating_units(same, ["warm"])


@pytest.mark.long
def test_a_language_model_learns_two_ratings_of_which_rows_lack_one(tmp_path):
    """Warm is the first word, long the number of words; half of the rows have each."""
    answers = [f"{a} {b}".strip() for a in ("red", "blue") for b in ("", "green", "grey")]
    whole = [
        {"warm": float(text.startswith("red")), "long": float(len(text.split()))}
        for text in answers
    ]
    rows = [row(text, warm=each["warm"]) for text, each in zip(answers, whole, strict=True)]
    rows += [row(text, long=each["long"]) for text, each in zip(answers, whole, strict=True)]
    units = rating_units(rows, ["warm", "long"])
    assert units == RatingUnits(("warm", "long"), *units[1:])
    batches = rating_rows(LAB, rows, units, batch_size=6)
    first = first_heads(LAB, random_params(LAB.policy.init), members=2)
    fit = Fit(optax.adam(0.02), 80)
    work = partial(rating_model, lab=LAB, rows=batches, params=first, fit=fit)
    with open_run(tmp_path, slug="test", config={}) as job:
        params = run_stage(job, "ratings", lambda stage: (work(stage), {}), like=first).arrays
    records = [row(text) for text in answers]
    scores = rating_scores(LAB, params, records, batch_size=6)
    found = units.means + units.deviations * scores
    np.testing.assert_allclose(found[:, 0], [each["warm"] for each in whole], atol=0.25)
    np.testing.assert_allclose(found[:, 1], [each["long"] for each in whole], atol=0.25)
