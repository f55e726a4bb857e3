"""Heads on segments of texts: labels, rewards of tokens, a transformer that learns from them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.data.spans import MarkedSpan
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.policies.language import language_step_scores
from rlhf_jax.recipes import (
    Fit,
    HeadLabels,
    SegmentHead,
    gae_of_steps,
    head_of,
    make_lab,
    make_prompts,
    online,
    ppo,
    prompt_rows,
    segment_model,
    segment_reward,
    segment_rows,
    text_task,
    whole_answer,
)
from rlhf_jax.recipes.ensembles import first_heads
from rlhf_jax.recipes.episodes import Transcripts
from rlhf_jax.recipes.lab import make_trajectories
from rlhf_jax.recipes.segments import head_examples, heads_scores, segment_batch
from rlhf_jax.training import UserError, open_run, run_stage

VOCABULARY = standard_vocabulary(train_word_tokenizer(["good bad sum ;"]))
SIZE = {"d_model": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "d_ff": 8}
LAB = make_lab(
    TransformerConfig(vocab_size=VOCABULARY.size, **SIZE),
    VOCABULARY,
    prompt_length=2,
    answer_length=7,
)
TASK = text_task(
    ["sum", "good", "bad", "sum sum"] * 4,
    lambda prompts, answers: {"good": [float(text.count("good")) for text in answers]},
    objective="good",
    heldout=4,
)


def clauses(text: str) -> list[tuple[int, int]]:
    """Segments that end with a semicolon."""
    found, start = [], 0
    for end in [i + 1 for i, letter in enumerate(text) if letter == ";"] + [len(text)]:
        if text[start:end].strip():
            found.append((start, end))
        start = end
    return found


def praise(prompt, answer, segments):
    return [1.0 if "good" in text else -1.0 for text in segments]


def shortness(prompt, answer, segments):
    return [-float(len(text.split())) for text in segments]


HEADS = {
    "praise": SegmentHead(clauses, 0.5, score=praise),
    "short": SegmentHead(whole_answer, 0.25, score=shortness),
}
ANSWERS = ["good ; bad bad ; good", "bad"]


def placed(heads, answers=ANSWERS):
    """Scores and token rewards [1, K, T] of answers to one prompt, and what is logged."""
    rows = make_trajectories(LAB, ["sum"] * len(answers), answers)
    trajectory = jax.tree.map(lambda x: x[None], rows)
    prompts = make_prompts(LAB, TASK, np.array([0]))
    reward = segment_reward(LAB, TASK, heads)
    given, named = reward.host(prompts, Transcripts(trajectory.actions, None, None))
    assert reward.steps is not None
    params = reward.params
    steps = reward.steps(params, given, trajectory)
    return reward.scores(params, given, trajectory), steps, named, rows


def test_heads_are_paid_at_the_last_tokens_of_their_segments():
    scores, steps, named, _ = placed(HEADS)
    # good ; bad bad ; good <eos>: the clauses end at tokens 1, 4 and 5; the answer at 5.
    # 0.5, -0.5, 0.5 - 0.25 * 6 words; bad <eos>: -0.5 - 0.25
    expected = np.zeros((1, 2, 7))
    expected[0, 0, [1, 4, 5]] = [0.5, -0.5, 0.5 - 1.5]
    expected[0, 1, 0] = -0.75
    np.testing.assert_allclose(steps, expected)
    np.testing.assert_allclose(scores, [[-1.0, -0.75]])
    np.testing.assert_allclose(named["segments/praise"], [[1 / 3, -1.0]])
    np.testing.assert_allclose(named["good"], [[2.0, 0.0]])


def test_a_segment_without_a_number_leaves_the_answer_out():
    head = SegmentHead(
        clauses, 1.0, score=lambda p, a, s: [np.nan if "bad" in x else 1.0 for x in s]
    )
    np.testing.assert_array_equal(placed({"one": head})[0], [[np.nan, np.nan]])


@pytest.mark.long
def test_a_model_pays_its_sign_at_the_ends_of_segments():
    params = LAB.reward.init(jax.random.key(3))
    _, steps, _, rows = placed({"model": SegmentHead(clauses, 2.0, params=params)})
    read = np.asarray(language_step_scores(LAB.scorer)(params, rows))
    ends = [[1, 4, 5], [0]]
    expected = np.zeros((1, 2, 7))
    for row, places in enumerate(ends):
        expected[0, row, places] = np.where(read[row, places] > 0, 2.0, -2.0)
    np.testing.assert_array_equal(steps, expected)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({}, "at least one head"),
        ({"a": SegmentHead(clauses, 1.0)}, "the head 'a' must have either"),
        ({"a": SegmentHead(clauses, 1.0, praise, {})}, "the head 'a' must have either"),
    ],
)
def test_heads_that_make_no_sense_are_named(heads, message):
    with pytest.raises(ValueError, match=message):
        segment_reward(LAB, TASK, heads)


def test_a_score_with_another_number_of_values_is_named():
    head = SegmentHead(clauses, 1.0, score=lambda prompt, answer, segments: [1.0])
    with pytest.raises(UserError, match="each of the 3 segments of 'good ; bad"):
        placed({"one": head})


def record(answer, *spans):
    return {"prompt": "sum", "answer": answer, "spans": list(spans)}


def test_examples_of_a_head_are_its_labelled_segments():
    records = [record("good ; bad bad ; good", (8, 11, "false"), (0, 3, "dull")), record("bad")]
    head = HeadLabels(clauses, ["false"], unless=["dull"])
    texts, free, rows = head_examples(head, records)
    assert texts == [" bad bad ;", " good", "bad"]  # not the dull one, which has no error
    assert free.tolist() == [False, True, True]
    assert rows.tolist() == [0, 0, 1]


def test_labels_are_at_the_ends_of_segments():
    first = record("good ; bad bad ; good", MarkedSpan(8, 11, "false"), (0, 3, "dull"))
    labels = [
        HeadLabels(clauses, ["false"]),
        HeadLabels(clauses, ["false"], unless=["dull"]),
        HeadLabels(whole_answer, ["false", "dull"]),
    ]
    batch = segment_batch(LAB, [first, record("good")], labels)
    assert batch.ends.shape == (2, 3, 7)
    for head, places, right in ((0, [1, 4, 5], [1, 0, 1]), (1, [4, 5], [0, 1]), (2, [5], [0])):
        np.testing.assert_array_equal(np.flatnonzero(batch.ends[0, head]), places)
        np.testing.assert_array_equal(batch.labels[0, head, places], right)
    np.testing.assert_array_equal(batch.ends[1, :, 0], [True] * 3)
    np.testing.assert_array_equal(batch.labels[1, :, 0], [1.0] * 3)


def test_a_segment_beyond_the_longest_answer_is_left_out_and_a_bad_span_named():
    # The second clause ends at the eighth token of at most seven.
    labels = [HeadLabels(clauses, ["false"])]
    batch = segment_batch(LAB, [record("good ; bad bad bad bad bad ;")], labels)
    np.testing.assert_array_equal(np.flatnonzero(batch.ends[0]), [1])
    with pytest.raises(UserError, match=r"the prompt 'sum': a span must lie in the 4 characters"):
        segment_batch(LAB, [record("good", (2, 9, "false"))], labels)


@pytest.mark.long
def test_heads_on_one_trunk_read_what_each_reads_alone():
    params = first_heads(LAB, LAB.policy.init(jax.random.key(0)), members=3)
    rows = make_trajectories(LAB, ["sum"] * 2, ANSWERS)
    found = heads_scores(LAB.scorer)(params, rows)
    assert found.shape == (2, 3, 7)
    read = language_step_scores(LAB.scorer)
    for number in range(3):
        alone = read(head_of(params, number), rows)
        np.testing.assert_allclose(found[:, number], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_a_transformer_learns_to_mark_segments_by_two_heads(tmp_path):
    answers = ["good ; bad", "bad ; good", "good ; good", "bad ; bad"]
    records = [
        record(
            text,
            *((i, i + 3, "false") for i in range(len(text)) if text[i:].startswith("bad")),
            *((0, 4, "dull") for _ in [0] if text.startswith("good")),
        )
        for text in answers
    ]
    labels = [HeadLabels(clauses, ["false"]), HeadLabels(whole_answer, ["dull"])]
    rows = segment_rows(LAB, records, labels, batch_size=4)
    start = first_heads(LAB, LAB.policy.init(jax.random.key(0)), members=2)
    fit = Fit(optax.adam(0.03), steps=60)
    with open_run(tmp_path / "run", slug="segments", config={}) as run:
        params = run_stage(
            run, "heads", lambda stage: (segment_model(stage, LAB, rows, start, fit), {})
        ).arrays
    heads = {
        "false": SegmentHead(clauses, 1.0, params=head_of(params, 0)),
        "dull": SegmentHead(whole_answer, 0.25, params=head_of(params, 1)),
    }
    scores, *_ = placed(heads, answers)
    np.testing.assert_allclose(scores, [[-0.25, 0.25, 1.75, -1.75]])


@pytest.mark.long
def test_a_transformer_learns_from_rewards_of_segments(tmp_path):
    first, critic = LAB.policy.init(jax.random.key(0)), LAB.value.init(jax.random.key(1))
    method = ppo(LAB, PPOConfig(beta=0.01), critic, credit=gae_of_steps)
    reward = segment_reward(LAB, TASK, {"praise": SegmentHead(clauses, 1.0, score=praise)})
    numbers, fit = prompt_rows(TASK, batch_size=16, seed=0), Fit(optax.adam(0.02), steps=12)

    def work(stage):
        args = (TASK, method, reward, first, numbers, fit)
        return {"params": online(stage, LAB, *args, key=jax.random.key(2))}, {}

    with open_run(tmp_path / "run", slug="segments", config={}) as run:
        trained = run_stage(run, "online", work).arrays["params"]

    def goodness(params):
        rows = make_trajectories(LAB, ["sum"] * 2, ["good", "bad"])
        logps = LAB.policy.logps(params, rows.inputs, rows.actions)[:, 0]
        return float(logps[0] - logps[1])

    assert goodness(trained) > goodness(first) + 0.1
    assert jnp.isfinite(goodness(trained))
