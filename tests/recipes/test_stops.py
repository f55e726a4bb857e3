"""Stop strings: what follows the first one is neither scored nor trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.data.tokenizer import decode_rows, standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.recipes import make_lab, make_prompts, measure, stopped_lab, task_reward, text_task
from rlhf_jax.recipes.episodes import task_rollout, transcripts
from rlhf_jax.recipes.stops import cut_answers, stop_lengths
from rlhf_jax.types import Rollout

WORDS = "red green customer : please"
VOCABULARY = standard_vocabulary(train_word_tokenizer([WORDS]))
STOP = "customer :"
EOS = VOCABULARY.stop_ids[0]


def ids(text: str, length: int) -> list[int]:
    row = [*VOCABULARY.tokenizer.encode(text).ids]
    return row + [VOCABULARY.pad_id] * (length - len(row))


def the_rollout() -> Rollout:
    """Four answers of 6 columns: one goes on with two simulated turns, one stops itself first, one
    says the marker in its last columns, one never says it."""
    texts = (
        "red customer : green customer :",
        "red",
        "red green red green customer :",
        "red customer red : red :",
    )
    actions = np.array([ids(text, 6) for text in texts])
    actions[1, 1:4] = [EOS, *ids(STOP, 2)]
    mask = np.ones((4, 6), bool)
    mask[1, 2:] = False
    prompts = np.array([[VOCABULARY.pad_id, *ids("green", 1)]] * 4)
    trajectory = language_trajectory(prompts, np.array([[False, True]] * 4), actions, mask)
    logps = jnp.where(mask, -jnp.arange(1.0, 7.0), 0.0)
    return Rollout(trajectory, logps, logps - 1.0 * mask, jnp.array([False, True, False, False]))


def test_answers_end_with_their_first_stop_string():
    """Lengths 3, none (7), 6, none: the string behind <eos> is no part of the second answer."""
    rollout = the_rollout()
    actions = np.asarray(rollout.trajectory.actions)
    lengths = stop_lengths(VOCABULARY, actions, [STOP])
    np.testing.assert_array_equal(lengths, [3, 7, 6, 7])
    found = cut_answers(rollout, jnp.asarray(lengths), pad_id=VOCABULARY.pad_id)
    counted = [[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1] * 6, [1] * 6]
    np.testing.assert_array_equal(found.trajectory.mask, np.array(counted, bool))
    np.testing.assert_array_equal(found.trajectory.inputs.segments[:, 2:], counted)
    np.testing.assert_array_equal(found.trajectory.inputs.segments[:, :2], [[0, 1]] * 4)
    np.testing.assert_array_equal(found.trajectory.inputs.ids[0, 2:], ids("red customer :", 6))
    np.testing.assert_array_equal(found.token_logps[0], [-1, -2, -3, 0, 0, 0])
    np.testing.assert_array_equal(found.sampling_token_logps[0], [-2, -3, -4, 0, 0, 0])
    np.testing.assert_array_equal(found.finished, [True, True, True, False])


def test_the_earliest_of_several_strings_counts():
    actions = np.array([ids("green please red customer : red", 6)])
    assert stop_lengths(VOCABULARY, actions, [STOP, "please"]).tolist() == [2]
    texts = decode_rows(VOCABULARY, actions.tolist(), [STOP, "please"])
    assert [text.split() for text in texts] == [["green"]]
    assert decode_rows(VOCABULARY, actions.tolist())[0].split()[-1] == "red"


def test_stops_are_strings():
    for stops in ("customer :", ["red", ""]):
        with pytest.raises(ValueError, match="stops must be strings that are not empty"):
            stopped_lab(LAB, stops)
    assert stopped_lab(LAB, []) is LAB


CONFIG = TransformerConfig(
    vocab_size=VOCABULARY.size,
    d_model=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
    d_ff=8,
)
LAB = make_lab(CONFIG, VOCABULARY, prompt_length=3, answer_length=6, seed=0)
SEEN: list[str] = []


def score(prompts, answers):
    SEEN.extend(answers)
    return {"reds": [text.split().count("red") for text in answers]}


TASK = text_task(["green", "please", "red"], score, objective="reds", heldout=1)


@pytest.mark.long
def test_a_stopped_lab_scores_and_counts_what_stands_before():
    """The same answers as of the lab itself, cut; the log-probs are those of the cut ones."""
    lab, indices = stopped_lab(LAB, [STOP, "please"]), np.arange(2)
    params = lab.policy.init(jax.random.key(3))
    prompts, key = make_prompts(lab, TASK, indices), jax.random.key(1)
    whole = LAB.draw(params, prompts, key, 32)
    cut, _ = task_rollout(lab, TASK, params, prompts, key, 32)
    before = decode_rows(VOCABULARY, np.asarray(whole.trajectory.actions).reshape(-1, 6).tolist())
    SEEN.clear()
    arrays, named = task_reward(lab, TASK).host(prompts, transcripts(cut, None))
    expected = [text.split("please")[0].split(STOP)[0] for text in before]
    assert [*map(str.split, SEEN)] == [*map(str.split, expected)]
    assert any(a != b for a, b in zip(before, SEEN, strict=True))
    np.testing.assert_array_equal(named["reds"], arrays)
    # The cut is seen by the trainer as it was by the sampler.
    logps = lab.token_logps(params, cut.trajectory)
    np.testing.assert_allclose(
        jnp.where(cut.trajectory.mask, logps, 0.0), cut.token_logps, atol=1e-4
    )
    found = measure(lab, TASK, params, params, indices, key, samples=32)
    np.testing.assert_allclose(found.log_ratios, 0.0, atol=1e-4)
    np.testing.assert_array_equal(found.lengths, cut.trajectory.mask.sum(-1))


def test_a_task_with_a_step_is_refused():
    lab = stopped_lab(LAB, [STOP])
    task = TASK._replace(step=lambda index, history, answer: (None, 0.0, True))
    prompts = make_prompts(lab, task, np.arange(1))
    with pytest.raises(ValueError, match="stop strings end single answers"):
        task_rollout(lab, task, {}, prompts, jax.random.key(0), 1)
