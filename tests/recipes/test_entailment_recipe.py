"""A language model that says yes or no: questions, training, scores, verdicts that are missing."""

from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops.ensembles import worst_case_scores
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.recipes import (
    Fit,
    entailment_judge,
    entailment_model,
    entailment_records,
    entailment_rows,
    entailment_rule,
    entailment_scores,
    entailment_text_reward,
    make_lab,
)
from rlhf_jax.recipes.entailment import entailment_batch, entailment_question
from rlhf_jax.training import UserError, open_run, run_stage
from rlhf_jax.types import Rollout

VOCABULARY = standard_vocabulary(train_word_tokenizer(["ask : red blue yes no"]))
YES, NO, RED = (VOCABULARY.tokenizer.token_to_id(word) for word in ("yes", "no", "red"))
END = VOCABULARY.stop_ids[0]
SIZE = {"d_model": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "d_ff": 8}
LAB = make_lab(
    TransformerConfig(vocab_size=VOCABULARY.size, **SIZE),
    VOCABULARY,
    prompt_length=6,
    answer_length=4,
)
JUDGE = entailment_judge(LAB, template="{prompt} {answer} : {principle} :")
RECORDS = [
    {"prompt": "ask", "answer": answer, "principle": asked, "label": answer == asked}
    for answer in ("red", "blue")
    for asked in ("red", "blue")
]
ASKED = entailment_records(LAB, JUDGE, RECORDS)


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    rows = entailment_rows(LAB, JUDGE, ASKED, batch_size=4)
    first, fit = LAB.policy.init(jax.random.key(0)), Fit(optax.adam(0.03), steps=250)
    with open_run(tmp_path_factory.mktemp("run") / "run", slug="entailment", config={}) as run:

        def work(stage):
            return entailment_model(stage, LAB, rows, first, fit, judge=JUDGE), {}

        return run_stage(run, "entailment", work).arrays


def test_a_question_ends_with_the_principle_and_is_answered_by_a_word():
    assert [row["prompt"] for row in ASKED[:2]] == ["ask red : red :", "ask red : blue :"]
    assert [row["answer"] for row in ASKED] == ["yes", "no", "no", "yes"]
    said = ({"role": "user", "content": "ask"}, {"role": "assistant", "content": "what?"})
    asked = entailment_question(LAB, JUDGE, said, [{"role": "assistant", "content": "red"}], "blue")
    assert asked == "user: ask\n\nassistant: what? red : blue :"
    batch = entailment_batch(LAB, JUDGE, ASKED)
    np.testing.assert_array_equal(batch.labels, [True, False, False, True])
    np.testing.assert_array_equal(batch.answers.mask.sum(-1), 1)  # <eos> does not count
    said = np.asarray(batch.answers.actions)[np.asarray(batch.answers.mask)]
    np.testing.assert_array_equal(said, [YES, NO, NO, YES])


@pytest.mark.long
def test_a_language_model_learns_to_read_the_principle(params):
    columns = ([row[name] for row in RECORDS] for name in ("prompt", "answer", "principle"))
    scores = entailment_scores(LAB, JUDGE, params, *columns, batch_size=3)
    np.testing.assert_array_equal(scores > 0, [True, False, False, True])
    score = entailment_text_reward(LAB, JUDGE, params, ["red", "blue"], combine=worst_case_scores)
    expected = np.clip(scores.reshape(2, 2), -10, 10).min(1)
    found = np.array(score(["ask"] * 2, ["red", "blue"]), float)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def saying(*rows):
    """The lab, writing these rows in turn, four columns each, to every prompt."""

    def draw(params, prompts, key, samples, first=0, *, sampling=None):
        ids, mask = (jnp.repeat(jnp.asarray(x)[:, None], samples, 1) for x in prompts.inputs)
        words = jnp.broadcast_to(
            jnp.array([[*row, *[0] * (4 - len(row))] for row in rows]), (*ids.shape[:2], 4)
        )
        counted = jnp.arange(4) < jnp.array([len(row) for row in rows])[:, None]
        counted = jnp.broadcast_to(counted, words.shape)
        trajectory = language_trajectory(ids, mask, words, counted)
        return Rollout(trajectory, words * 0.0, words * 0.0, counted[..., -1])

    return LAB._replace(draw=draw)


GIVEN = (["ask"], ["red"], ["red"])


@pytest.mark.long
def test_a_judgement_is_read_where_it_ends_and_counted_where_it_has_no_verdict():
    params, counts = LAB.policy.init(jax.random.key(3)), Counter()
    lab = saying((RED, YES, END), (NO, END), (YES, RED, END), (RED, YES))
    found = entailment_scores(lab, JUDGE, params, *GIVEN, samples=4, counts=counts)
    assert counts == {"judgements": 4, "unread": 2}
    at_once = entailment_scores(LAB, JUDGE, params, *GIVEN)[0]
    only = entailment_scores(saying((NO, END)), JUDGE, params, *GIVEN, samples=1)[0]
    assert only == pytest.approx(at_once, rel=1e-5)  # r does not say which verdict was written
    thought = entailment_scores(saying((RED, YES, END)), JUDGE, params, *GIVEN, samples=1)[0]
    assert found[0] == pytest.approx((thought + only) / 2, rel=1e-5)
    # Nobody reads what was cut, or says something else: the answer is masked.
    mute = saying((RED, YES))
    assert np.isnan(entailment_scores(mute, JUDGE, params, *GIVEN, samples=1)).all()
    reward = entailment_text_reward(mute, JUDGE, params, ["red"], samples=1, counts=counts)
    assert reward(["ask"], ["red"]) == [None]
    assert counts == {"judgements": 5, "unread": 3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("yes", "maybe"), "the verdict 'maybe' is unknown to the tokenizer"),
        (("yes yes", "no"), "the verdict 'yes yes' must be one token, is 2"),
        (("", "no"), "the verdict '' must be one token"),
        (("no", "no"), "the verdicts 'no' and 'no' are the same token"),
    ],
)
def test_verdicts_are_two_known_tokens(words, message):
    with pytest.raises(UserError, match=message):
        entailment_judge(LAB, words)


def test_bad_records_and_no_principle_are_named():
    for bad, message in (
        ({"label": 2}, "the label must be true or false, .* got 2"),
        ({"label": None}, "got None"),
        ({"principle": " "}, "has no principle"),
    ):
        with pytest.raises(UserError, match=message):
            entailment_records(LAB, JUDGE, [RECORDS[0] | bad])
    with pytest.raises(UserError, match="needs at least one principle"):
        entailment_text_reward(LAB, JUDGE, None, [])


def test_the_rule_pays_for_the_last_word():
    texts = ["red yes", "no", "yes red", "", "no yes", "Yes"]
    labels = [True, False, True, True, False, 1]
    assert entailment_rule()([""] * 6, texts, label=labels) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert entailment_rule(("y", "n"), column="ok")([""], ["n"], ok=[0]) == [1.0]
    for label in (2, None, "yes", 0.5):
        with pytest.raises(ValueError, match="label must be true or false, got"):
            entailment_rule()([""], ["yes"], label=[label])


def test_one_judge_of_a_policy_compiles_once():
    assert entailment_judge(LAB).reward is JUDGE.reward
    assert entailment_judge(LAB._replace(answer_length=1)).ids == (YES, NO)
    other = replace(VOCABULARY, stop_ids=(END, RED))
    assert entailment_judge(LAB._replace(vocabulary=other)).ids == (YES, NO)
