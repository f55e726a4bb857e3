"""Pieces of a lab: draws, texts, an optimizer, batches on several devices, texts it cannot read."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from word_lab import GREEN, RED, VOCABULARY, transformer_lab, word_lab

from rlhf_jax.recipes import adamw_cosine, make_prompts, text_task
from rlhf_jax.recipes.lab import (
    check_batches,
    chunk_of,
    decode_texts,
    make_draw,
    make_trajectories,
    start_training,
    wrapped,
)
from rlhf_jax.sharding import make_mesh
from rlhf_jax.training import UserError

LAB = word_lab()


@pytest.mark.long
def test_a_sampling_of_its_own_takes_the_place_of_the_default():
    lab = transformer_lab()
    task = text_task(["red", "green", "blue"], lambda p, a: {}, objective="s", heldout=1)
    prompts = make_prompts(lab, task, np.arange(3))
    params = lab.policy.init(jax.random.key(0))
    draw = make_draw(lab.decoder, lab.sampling, None)
    greedy = draw(
        params, prompts, jax.random.key(0), 2, sampling=replace(lab.sampling, temperature=0.0)
    )
    assert greedy.trajectory.actions.shape == (3, 2, 4)
    np.testing.assert_array_equal(*np.moveaxis(np.asarray(greedy.trajectory.actions), 1, 0))


def test_a_text_ends_at_its_stop_id():
    stop = VOCABULARY.stop_ids[0]
    assert decode_texts(LAB, np.array([[RED, GREEN, stop, RED], [stop] * 4])) == ["red green", ""]


def test_the_learning_rate_rises_and_falls_to_a_tenth():
    """100 steps: 10 of warm-up to 0.1, then a cosine to 0.01; Adam's steps of a constant gradient
    are the learning rate; weights of 0 do not decay."""
    optimizer = adamw_cosine(0.1, 100)
    state, sizes = optimizer.init(jnp.ones(())), []
    update = jax.jit(optimizer.update)
    for _ in range(101):
        step, state = update(jnp.ones(()), state, jnp.zeros(()))
        sizes.append(-float(step))
    np.testing.assert_allclose([sizes[i] for i in (0, 10, 100)], [0.0, 0.1, 0.01], rtol=1e-4)
    with pytest.raises(ValueError, match="learning_rate"):
        adamw_cosine(0.0, 100)


def test_batches_that_devices_cannot_share_are_named():
    config = SimpleNamespace(sft=SimpleNamespace(batch_size=12), seed=3)
    check_batches(LAB, config)
    with pytest.raises(UserError, match=r"sft\.batch_size must be a multiple of 8, .* got 12"):
        check_batches(LAB._replace(mesh=make_mesh()), config)


def test_chunks_go_round_at_the_end():
    np.testing.assert_array_equal(wrapped(np.array([5, 6, 7]), 2, 4), [7, 5, 6, 7])


def test_a_prompt_that_is_no_text_of_the_model_is_named():
    prompts = ["red", "green", None, "red <eos>", ""]
    task = text_task(["red"] * 5, lambda p, a: {}, objective="s", heldout=1)
    task = task._replace(texts=lambda numbers: [prompts[i] for i in numbers])
    with pytest.raises(UserError, match="prompt 2: expected a text or a list of messages, got N"):
        make_prompts(LAB, task, np.array([1, 2]))
    with pytest.raises(UserError, match="prompt 3: the text has the word <eos>"):
        make_prompts(LAB, task, np.array([1, 3]))
    without = LAB._replace(vocabulary=replace(VOCABULARY, bos_id=None))
    with pytest.raises(UserError, match="prompt 4: empty prompt"):
        make_prompts(without, task, np.array([1, 0, 4]))


def test_an_answer_that_is_empty_is_named_by_its_prompt():
    with pytest.raises(UserError, match="the record with the prompt 'red': zero supervised"):
        make_trajectories(LAB, ["green", "red"], ["red", ""])


def test_a_prompt_that_is_too_long_keeps_its_end():
    task = text_task(["red red green red", "red"], lambda p, a: {}, objective="s", heldout=1)
    np.testing.assert_array_equal(
        make_prompts(LAB, task, np.array([0])).inputs[0], [[RED, GREEN, RED]]
    )


def test_answers_are_drawn_for_few_prompts_at_once_or_for_128():
    lab = word_lab(prompt_length=2, answer_length=2)
    assert [chunk_of(lab, total) for total in (1, 19, 128, 500)] == [1, 19, 128, 128]
    # Two devices share the rows of a chunk: an even number.
    assert chunk_of(lab._replace(mesh=make_mesh(devices=jax.devices()[:2])), 19) == 20


def test_the_first_state_is_all_where_its_params_are():
    """Else the state after the first step would be, and the update compiled again for it."""
    optimizer = adamw_cosine(0.1, 2)
    params = {"words": jax.device_put(jnp.zeros(3), jax.devices()[1])}
    state, _ = start_training(LAB, params, LAB.axes["policy"], optimizer, lambda state, batch: None)
    assert {x.device for x in jax.tree.leaves(state)} == {jax.devices()[1]}
    # Params that are bound to no device leave the rest free too.
    free, _ = start_training(LAB, {"words": jnp.zeros(3)}, {}, optimizer, lambda state, batch: None)
    assert not any(x.committed for x in jax.tree.leaves(free))
