"""A language model that rewrites answers: its rows, and rewards of tokens after training."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from word_lab import VOCABULARY, transformer_lab

from rlhf_jax.data.readers import reader
from rlhf_jax.policies.rewriting import language_rewriting
from rlhf_jax.recipes import Fit, correction_model, correction_reward, pair_rows
from rlhf_jax.recipes.lab import make_trajectories
from rlhf_jax.training import UserError, open_run, run_stage

LAB_PROMPT = 3
LAB = transformer_lab(LAB_PROMPT)
PAIRS = [
    {"prompt": "red", "chosen": "green blue", "rejected": "green grey"},
    {"prompt": "red", "chosen": "green blue", "rejected": "red blue"},
    {"prompt": "grey", "chosen": "blue green", "rejected": "blue grey"},
    {"prompt": "grey", "chosen": "blue green", "rejected": "red green"},
]


def answered(*rows):
    prompts, answers = zip(*rows, strict=True)
    return make_trajectories(LAB, list(prompts), list(answers))


def test_a_row_has_the_prompt_both_answers_and_a_separator_between():
    read, write = answered(("red", "green")), answered(("red", "blue grey"))
    rows = language_rewriting(separator=9)(read, write)
    real = np.asarray(rows.inputs.segments[0]) > 0
    prompt = np.asarray(read.inputs.segments[0])[:LAB_PROMPT] > 0
    expected = [
        *np.asarray(read.inputs.ids[0])[:LAB_PROMPT][prompt],
        *np.asarray(read.actions[0])[np.asarray(read.mask[0])],
        9,
        *np.asarray(write.actions[0])[np.asarray(write.mask[0])],
    ]
    np.testing.assert_array_equal(np.asarray(rows.inputs.ids[0])[real], expected)
    np.testing.assert_array_equal(np.asarray(rows.inputs.positions[0])[real], np.arange(real.sum()))
    np.testing.assert_array_equal(rows.mask, write.mask)
    np.testing.assert_array_equal(rows.actions, write.actions)
    with pytest.raises(ValueError, match=r"separator must be in \[0, inf\)"):
        language_rewriting(separator=-1)


@pytest.mark.long
def test_a_language_model_learns_to_correct_and_pays_tokens_by_it(tmp_path):
    rows = pair_rows(LAB, PAIRS, batch_size=4)
    start = LAB.policy.init(jax.random.key(0))
    fit = Fit(optax.adam(0.03), steps=120)
    with open_run(tmp_path / "run", slug="corrections", config={}) as run:
        params = run_stage(
            run, "rm", lambda stage: (correction_model(stage, LAB, rows, start, fit), {})
        ).arrays
    reward = correction_reward(LAB, params)
    assert reward.steps is not None
    good = answered(("red", "green blue"), ("grey", "blue green"))
    paid = reward.steps(reward.params, (), good)
    # Two words and the stop token, each paid a third.
    np.testing.assert_allclose(paid[:, :3], 1 / 3, rtol=1e-6)
    np.testing.assert_array_equal(paid[:, 3:], 0.0)
    np.testing.assert_allclose(reward.scores(reward.params, (), good), 1.0, rtol=1e-6)
    bad = answered(("red", "green grey"), ("grey", "red green"))
    fined = reward.steps(reward.params, (), bad)
    np.testing.assert_allclose(fined[0, :2], [1 / 3, -1 / 3], rtol=1e-6)
    np.testing.assert_allclose(fined[1, 0], -1 / 3, rtol=1e-6)
    # Answers in groups, as they are sampled.
    groups = jax.tree.map(lambda x: jnp.stack([x, x], 1), bad)
    grouped = reward.scores(reward.params, (), groups)
    np.testing.assert_allclose(grouped, jnp.stack([fined.sum(-1)] * 2, 1), atol=1e-6)


def test_a_vocabulary_without_a_separator_is_named():
    bare = LAB._replace(vocabulary=_without_separator())
    with pytest.raises(UserError, match="needs a vocabulary with a bos_id"):
        correction_reward(bare, {})


def _without_separator():
    """Every special token ends answers or is padding."""
    special = reader(VOCABULARY.tokenizer).special - {VOCABULARY.pad_id}
    return replace(VOCABULARY, bos_id=None, stop_ids=tuple(sorted(special)))
