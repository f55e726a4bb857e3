"""A real pretrained model: its published text, and its loss as `transformers` has it."""

import numpy as np
import pytest
from tiny_checkpoints import (
    STORIES,
    load_theirs,
    our_answers,
    our_logits,
    padded,
    their_answers,
    their_logits,
)
from tokenizers import Tokenizer

from rlhf_jax.hf import load_model

pytestmark = pytest.mark.skipif(not STORIES.exists(), reason="needs shared/models/stories260k")

# llama2.c, doc/stories260K.md: the greedy continuation of "Once upon a time".
PUBLISHED = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball. She wanted to play with it, but it was too high."
)
START = "Once upon a time"
LENGTH = 250


@pytest.fixture(scope="module")
def story():
    """The model, the ids of the prompt, our 250 greedy tokens and the text of all of them."""
    model = load_model(STORIES)
    tokenizer = Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    prompt = [1, *tokenizer.encode(START, add_special_tokens=False).ids]
    ids, mask = padded([prompt])
    (answer,) = our_answers(model.config, model.params, ids, mask, length=LENGTH)
    return model, prompt, answer, tokenizer.decode(prompt + answer)


def test_the_greedy_text_is_the_published_one(story):
    *_, answer, text = story
    assert len(answer) == LENGTH
    assert text.startswith(PUBLISHED)


@pytest.mark.slow
def test_transformers_writes_the_same_250_tokens(story):
    _, prompt, answer, _ = story
    ids, mask = padded([prompt])
    assert their_answers(load_theirs(STORIES), ids, mask, length=LENGTH) == [answer]


@pytest.mark.slow
def test_the_mean_loss_on_its_own_story_is_that_of_transformers(story):
    model, prompt, answer, _ = story
    ids, mask = padded([prompt + answer])

    def loss(logits):
        logits = logits[0, :-1] - logits[0, :-1].max(-1, keepdims=True)
        chosen = np.take_along_axis(logits, ids[0, 1:, None], axis=-1)[:, 0]
        return float(np.mean(np.log(np.exp(logits).sum(-1)) - chosen))

    ours = loss(our_logits(model.config, model.params, ids, mask))
    theirs = loss(their_logits(load_theirs(STORIES), ids, mask))
    assert abs(ours - theirs) < 1e-4
    assert 0 < ours < 1.2968  # its published validation loss; greedy text is likelier
