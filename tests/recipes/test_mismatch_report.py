"""Mismatch of checkpoints by hand, and of the runs of two language policies."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from one_word_lab import IDS, PROMPTS, TASK, VOCABULARY, one_word_lab, words

from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch, make_answer_update
from rlhf_jax.losses.answer_policy_gradient import rloo_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.mismatch import correlations_around_peak, order_accuracy
from rlhf_jax.policies.language import language_policy, language_trajectory
from rlhf_jax.recipes import measure, text_task
from rlhf_jax.recipes.evaluation import Measured
from rlhf_jax.recipes.mismatch import mismatch_report


def checkpoint(scores, gold, *, kl=0.0, downstream=None) -> Measured:
    """Two answers to each of the prompts."""
    scores, gold = np.array(scores, float), np.array(gold, float)
    named = {"gold": gold, "downstream": gold if downstream is None else np.array(downstream)}
    texts = [["a", "b"]] * len(gold)
    numbers = np.full(gold.shape, kl)
    return Measured(texts, named, scores, numbers, np.ones(gold.shape, int), gold == gold, numbers)


RUN = [
    checkpoint([[0, 1], [1, 0]], [[0, 1], [1, 0]]),
    checkpoint([[2, 3], [3, 2]], [[2, 3], [3, 2]], kl=1.0),
    checkpoint([[4, 5], [5, 4]], [[1, 2], [1, 2]], kl=2.0),
    checkpoint([[6, 7], [7, 6]], [[1, 0], [0, 1]], kl=3.0),
]


def test_a_run_that_is_led_past_the_peak():
    report = mismatch_report(RUN, gold="gold", metrics=("downstream",))
    np.testing.assert_allclose(report.means["gold"], [0.5, 2.5, 1.5, 0.5])
    np.testing.assert_allclose(report.means["score"], [0.5, 2.5, 4.5, 6.5])
    np.testing.assert_allclose(report.means["kl"], [0.0, 1.0, 2.0, 3.0])
    # Both prompts right at first, one of them at the third, none at the last.
    np.testing.assert_allclose(report.means["accuracy"], [1.0, 1.0, 0.5, 0.0])
    np.testing.assert_allclose(report.mismatch, [1.0, 1.0, 1.0])
    for name in ("gold", "downstream"):
        before = report.correlations[f"score, {name}, up to the peak"]
        after = report.correlations[f"score, {name}, from the peak on"]
        np.testing.assert_allclose([before, after], [[1.0] * 3, [-1.0] * 3])


def test_a_run_whose_gold_never_falls_has_no_part_after_its_peak():
    report = mismatch_report(RUN[:2], gold="gold")
    assert report.correlations["score, gold, up to the peak"][0] == 1.0
    assert np.isnan(report.correlations["score, gold, from the peak on"]).all()


def test_answers_that_were_left_out_do_not_count():
    mute = checkpoint([[6, 7], [7, 6]], [[1, np.nan], [0, 1]])
    report = mismatch_report([RUN[0], mute], gold="gold")
    # Prompt 0 has one answer with a gold score, 1; prompt 1 has 0 and 1, in the wrong order.
    assert report.means["gold"][1] == pytest.approx((1.0 + 0.5) / 2)
    assert report.means["accuracy"][1] == 0.0


@pytest.mark.parametrize(
    ("found", "options", "message"),
    [
        (RUN[:1], {"gold": "gold"}, "at least two checkpoints, got 1"),
        (RUN, {"gold": "silver"}, r"'silver' was not measured.*\['downstream', 'gold'\]"),
        ([x._replace(scores=None) for x in RUN], {"gold": "gold"}, "no reward model"),
        ([RUN[0], checkpoint([[0, 1]] * 3, [[0, 1]] * 3)], {"gold": "gold"}, "different prompts"),
        ([checkpoint([[0], [1]], [[0], [1]])] * 2, {"gold": "gold"}, "two answers each"),
    ],
)
def test_bad_checkpoints_are_named(found, options, message):
    with pytest.raises(ValueError, match=message):
        mismatch_report(found, **options)


@pytest.mark.long
def test_measured_checkpoints_of_a_language_model():
    """The reward model likes green best, the task red: more green is more score and less gold."""
    lab, indices = one_word_lab(), np.array(TASK.splits["heldout"])
    scores = jnp.zeros(VOCABULARY.size).at[IDS["green"]].set(2.0).at[IDS["red"]].set(1.0)
    reference = words(blue=0.6, red=0.3, green=0.1)
    policies = [
        reference,
        words(blue=0.1, red=0.7, green=0.2),
        words(blue=0.01, red=0.1, green=0.89),
    ]
    key = jax.random.key(0)
    found = [
        measure(lab, TASK, each, reference, indices, key, samples=40, reward=scores)
        for each in policies
    ]
    report = mismatch_report(found, gold="worth")
    assert (np.diff(report.means["score"]) > 0).all()
    assert report.means["worth"].argmax() == 1
    assert report.correlations["score, worth, from the peak on"][0] == -1.0
    # Blue against the others is in order, green against red is not.
    assert report.mismatch[0] > 0.3


@pytest.mark.long
def test_the_code_of_the_page_runs():
    """docs/reward_models.md, on a task that scores red as gold and green as exact."""

    def score(prompts, answers):
        return {"gold": [float(x == "red") for x in answers]} | {
            "exact": [float(x == "green") for x in answers]
        }

    names: dict[str, Any] = {
        "lab": one_word_lab(),
        "task": text_task(PROMPTS, score, objective="gold", heldout=5),
        "sft": words(blue=0.6, red=0.3, green=0.1),
        "checkpoints": [words(blue=0.1, red=0.7, green=0.2), words(blue=0.1, red=0.1, green=0.8)],
        "key": jax.random.key(0),
        "reward": jnp.zeros(VOCABULARY.size).at[IDS["green"]].set(2.0).at[IDS["red"]].set(1.0),
    }
    names["indices"] = np.array(names["task"].splits["heldout"])
    page = (Path(__file__).parents[2] / "docs" / "reward_models.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    for block in (each for each in blocks if "mismatch_report" in each):
        exec(compile(block, "docs/reward_models.md", "exec"), names)
    report = names["report"]
    assert report.means["gold"].argmax() == 1
    assert report.means["exact"].argmax() == 2
    assert report.correlations["score, exact, up to the peak"][0] == 1.0


@pytest.mark.long
def test_a_transformer_is_led_past_the_peak_of_gold_by_exact_policy_gradients():
    """All answers of two tokens, weighted by their probability; score: how often token 1 occurs."""
    sizes = TransformerConfig(
        vocab_size=3,
        d_model=8,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        d_ff=16,
    )
    policy = language_policy(make_transformer(sizes))
    answers = jnp.stack(jnp.meshgrid(*[jnp.arange(3)] * 2, indexing="ij"), -1).reshape(-1, 2)
    ones = jnp.ones((len(answers), 2), bool)
    trajectory = language_trajectory(jnp.full_like(answers, 2), ones, answers, ones)
    scores = jnp.sum(answers == 1, axis=-1) + 0.3 * answers[:, 0]
    gold = scores - 0.3 * scores**2
    optimizer = optax.adam(0.02)
    update = make_answer_update(policy, optimizer, partial(rloo_loss, clip_eps=jnp.inf))

    def step(state, _):
        token_logps = policy.logps(state.params, trajectory.inputs, answers)
        probs = jnp.exp(sequence_logps(token_logps, ones))
        columns = {"old_token_logps": token_logps, "advantages": scores - probs @ scores}
        means = jnp.stack([probs @ scores, probs @ gold, order_accuracy(scores, gold, probs)])
        return update(state, AnswerBatch(trajectory, columns, probs))[0], means

    state = init_state(policy.init(jax.random.key(0)), optimizer)
    means = np.asarray(jax.lax.scan(step, state, None, length=150)[1])
    before, after = correlations_around_peak(jnp.asarray(means[:, 0]), jnp.asarray(means[:, 1]))
    assert means[-1, 0] > 0.9 * float(scores.max())
    assert 0 < means[:, 1].argmax() < 149
    assert before > 0.9
    assert after < -0.9
    assert means[-1, 2] < means[0, 2] - 0.2
