"""The lab's length policies on records and in batches."""

import numpy as np
import pytest
from word_lab import VOCABULARY, transformer_lab

from rlhf_jax.recipes import fitting_records, make_prompts, text_task
from rlhf_jax.recipes.rows import answer_batch
from rlhf_jax.training import UserError

LAB = transformer_lab(prompt_length=3, answer_length=3)  # with <bos>, and with <eos>: two words
RECORDS = [
    {"prompt": "red", "answer": "red"},
    {"prompt": "red green blue", "answer": "red"},
    {"prompt": "red", "answer": "red green blue"},
]
RED, GREEN, BLUE = (VOCABULARY.tokenizer.token_to_id(word) for word in ("red", "green", "blue"))
BOS, EOS = VOCABULARY.bos_id, VOCABULARY.stop_ids[0]


def lab_with(prompts, answers):
    return LAB._replace(long_prompts=prompts, long_answers=answers)


def test_records_are_dropped_or_truncated_and_counted():
    found = fitting_records(lab_with("drop", "truncate_right"), RECORDS)
    assert (found.kept, found.dropped, found.prompts, found.answers) == ([0, 2], 1, 0, 1)
    assert list(found.records) == [RECORDS[0], RECORDS[2]]
    found = fitting_records(lab_with("truncate_left", "drop"), RECORDS)
    assert (found.kept, found.dropped, found.prompts, found.answers) == ([0, 1], 1, 1, 0)
    pairs = [{"prompt": "red", "chosen": "red", "rejected": "red green blue"}]
    assert fitting_records(LAB, pairs).answers == 1


def test_a_record_that_is_too_long_is_named():
    with pytest.raises(UserError, match="record 1: its prompt has 4 tokens, at most 3 fit"):
        fitting_records(lab_with("error", "drop"), RECORDS)
    with pytest.raises(UserError, match=r"record 2: its answer has 4 tokens, .* long_answers drop"):
        fitting_records(lab_with("drop", "error"), RECORDS)
    with pytest.raises(UserError, match="all 1 records are longer than prompt_length 3"):
        fitting_records(lab_with("drop", "drop"), RECORDS[1:2])


@pytest.mark.parametrize(
    ("prompts", "answers", "asked", "given"),
    [
        ("truncate_left", "truncate_right", [RED, GREEN, BLUE], [RED, GREEN, BLUE]),
        ("truncate_right", "truncate_left", [BOS, RED, GREEN], [GREEN, BLUE, EOS]),
    ],
)
def test_a_batch_truncates_on_the_side_of_the_policy(prompts, answers, asked, given):
    batch = answer_batch(lab_with(prompts, answers), [RECORDS[1] | {"answer": "red green blue"}])
    np.testing.assert_array_equal(np.asarray(batch.inputs.ids)[0, :3], asked)
    np.testing.assert_array_equal(batch.actions[0], given)


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_a_batch_never_cuts_silently(policy):
    with pytest.raises(UserError, match=r"the prompt 'red': 4 tokens, at most 3"):
        answer_batch(lab_with("truncate_left", policy), RECORDS[2:])
    task = text_task(["red green blue", "red"], lambda p, a: {"x": a}, objective="x", heldout=1)
    with pytest.raises(UserError, match="prompt 0: 4 tokens, at most 3 fit"):
        make_prompts(lab_with(policy, "drop"), task, np.array([0]))
