"""Records with messages as batches: what counts, what is only read, and errors that name them."""

import chat_templates
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foreign_tokenizers import byte_level

from rlhf_jax.data.chat import encode_reply
from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.data.tokenizer import separator_id
from rlhf_jax.models import TransformerConfig
from rlhf_jax.recipes import answer_rows, make_lab, make_prompts, pair_rows, text_task
from rlhf_jax.recipes.buckets import token_lengths
from rlhf_jax.recipes.episodes import task_rollout
from rlhf_jax.recipes.lab import make_trajectories
from rlhf_jax.recipes.tokens import Case, prompt_tokens, side_case, text_prompt, token_rows
from rlhf_jax.training import UserError
from rlhf_jax.types import Rollout, Trajectory, Vocabulary

pytest.importorskip("jinja2")

TOKENIZER = byte_level(["<|im_start|>", "<|im_end|>", "<|end|>"], bos=None)
START, STOP, END = (
    TOKENIZER.token_to_id(token) for token in ("<|im_start|>", "<|im_end|>", "<|end|>")
)
# Padding is a stop id too: masks alone tell it from the end of an answer.
VOCABULARY = Vocabulary(TOKENIZER, STOP, None, (STOP, END))
TEMPLATE = ChatTemplate({"default": chat_templates.CHATML})
CONFIG = TransformerConfig(
    vocab_size=VOCABULARY.size,
    d_model=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
    d_ff=8,
)
LAB = make_lab(CONFIG, VOCABULARY, prompt_length=60, answer_length=90, chat=TEMPLATE)

USER = {"role": "user", "content": "Name a colour."}
RED = {"role": "assistant", "content": "red"}
MORE = {"role": "user", "content": "One more!"}
BLUE = {"role": "assistant", "content": "blue"}


def texts(trajectory, row=0):
    """(prompt, tokens that are read, tokens that count) of a row, as text."""
    inputs, length = trajectory.inputs, trajectory.actions.shape[-1]
    real = np.asarray(inputs.segments[row]) > 0
    ids = np.asarray(inputs.ids[row])

    def decode(ids):
        return TOKENIZER.decode(ids.tolist(), skip_special_tokens=False)

    prompt, answer = ids[:-length][real[:-length]], ids[-length:]
    valid, mask = (np.asarray(x)[row] for x in (trajectory.valid, trajectory.mask))
    np.testing.assert_array_equal(valid, real[-length:])
    return decode(prompt), decode(answer[valid]), decode(answer[mask])


FIRST = "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n"
SECOND = "<|im_start|>user\nOne more!<|im_end|>\n<|im_start|>assistant\n"


def test_every_answer_of_a_dialogue_counts_and_turns_between_are_read():
    records = [{"messages": [USER, RED, MORE, BLUE]}]
    batch = answer_rows(LAB, records, batch_size=1)[0]
    assert texts(batch) == (
        FIRST,
        f"red<|im_end|>\n{SECOND}blue<|im_end|>",
        "red<|im_end|>blue<|im_end|>",
    )


def test_only_the_answer_to_a_prompt_counts():
    for answer in ([BLUE], "blue"):
        record = {"prompt": [USER, RED, MORE], "answer": answer, "tools": ()}
        batch = answer_rows(LAB, [record], batch_size=1)[0]
        before = f"{FIRST}red<|im_end|>\n{SECOND}"
        kept = TOKENIZER.decode(
            TOKENIZER.encode(before).ids[-LAB.prompt_length :], skip_special_tokens=False
        )
        assert texts(batch) == (kept, "blue<|im_end|>", "blue<|im_end|>")


def test_pairs_share_the_ids_of_their_prompt():
    pairs = [{"prompt": [USER], "chosen": [RED, MORE, BLUE], "rejected": "no"}]
    batch = pair_rows(LAB, pairs, batch_size=1)[0]
    assert texts(batch.chosen)[2] == "red<|im_end|>blue<|im_end|>"
    assert texts(batch.rejected) == (FIRST, "no<|im_end|>", "no<|im_end|>")
    prompts = [side.inputs.ids[:, : LAB.prompt_length] for side in (batch.chosen, batch.rejected)]
    np.testing.assert_array_equal(*prompts)


def test_a_prompt_to_sample_from_has_the_ids_that_training_reads():
    task = text_task([[USER], [USER, RED, MORE]], lambda *_: {}, objective="x", heldout=1)
    prompts = make_prompts(LAB, task, np.array([0, 1]))
    trained = make_trajectories(LAB, task.texts(np.array([0, 1])), [[RED], [BLUE]])
    ids, mask = prompts.inputs
    np.testing.assert_array_equal(ids, trained.inputs.ids[:, : LAB.prompt_length])
    np.testing.assert_array_equal(mask, trained.inputs.segments[:, : LAB.prompt_length] > 0)


def test_texts_and_messages_may_share_a_batch():
    batch = make_trajectories(LAB, ["say it", [USER]], [" red", [RED]])
    assert texts(batch, 0) == ("say it", " red<|im_end|>", " red<|im_end|>")
    assert texts(batch, 1) == (FIRST, "red<|im_end|>", "red<|im_end|>")


def test_padding_that_is_a_stop_counts_nowhere():
    batch = make_trajectories(LAB, [[USER]], [[RED]])
    ids, mask = np.asarray(batch.actions[0]), np.asarray(batch.mask[0])
    count = int(mask.sum())
    assert (ids[count - 1 :] == STOP).all()
    assert mask.tolist() == [True] * count + [False] * (len(ids) - count)


def test_lengths_of_dialogues_for_buckets():
    records = [{"messages": [USER, RED, MORE, BLUE]}, {"messages": [USER, RED]}]
    prompt = len(TOKENIZER.encode(FIRST).ids)
    lengths = token_lengths(LAB, records)
    assert lengths.shape == (2, 1, 2)
    assert lengths[:, 0, 0].tolist() == [prompt, prompt]
    assert lengths[1, 0, 1] == len(TOKENIZER.encode("red").ids) + 1
    assert lengths[0, 0, 1] > lengths[1, 0, 1]


def test_a_prompt_in_messages_is_kept_in_a_record_of_texts():
    record = {"chosen": "red", "rejected": "no"} | text_prompt([USER])
    assert set(map(type, record.values())) == {str}
    assert side_case(record, "chosen") == ([USER], "red", None)
    assert text_prompt("say it") == {"prompt": "say it"}


def test_answers_of_a_pairwise_model_are_parted_by_a_token_that_ends_none():
    assert separator_id(VOCABULARY) == START


@pytest.mark.parametrize(
    ("prompt", "answer", "message"),
    [
        ([USER], [], "the record with the prompt 'Name a colour.': zero supervised tokens: no mes"),
        ([USER], [USER], "zero supervised tokens: no message"),
        ([USER], "", "zero supervised tokens in message 1"),
        ([USER], None, "expected a text or a list of messages, got None"),
        ("say it", [RED], "the prompt is a text and the answer"),
        ([{"role": "bot", "content": "a"}], [RED], "'a': message 0: role 'bot', expected one of"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(prompt, answer, message):
    good = {"prompt": [USER], "answer": [RED]}
    with pytest.raises(UserError, match=message):
        answer_rows(LAB, [good, {"prompt": prompt, "answer": answer}], batch_size=2)[0]


def test_messages_need_a_template():
    bare = LAB._replace(chat=None)
    task = text_task([[USER], [USER]], lambda *_: {}, objective="x", heldout=1)
    with pytest.raises(UserError, match="prompt 1: messages need a chat template"):
        make_prompts(bare, task, np.array([1]))
    with pytest.raises(UserError, match="prompt 0: the last message of a prompt is the assistant"):
        make_prompts(
            LAB,
            text_task([[USER, RED]] * 2, lambda *_: {}, objective="x", heldout=1),
            np.array([0]),
        )


def test_the_ids_of_texts_and_of_dialogues():
    def decode(ids):
        return TOKENIZER.decode(ids, skip_special_tokens=False)

    asked = prompt_tokens(VOCABULARY, TEMPLATE, ["Hello", [USER]])
    assert [decode(ids) for ids in asked] == ["Hello", FIRST]
    text, dialogue = (
        token_rows(VOCABULARY, TEMPLATE, [case])[0]
        for case in (Case("Hello", " you"), Case([USER], [RED, MORE, BLUE]))
    )
    # The end of turn of ChatML is the first stop id of both.
    assert (decode(text.prompt), decode(text.answer)) == ("Hello", " you<|im_end|>")
    assert all(text.counted)
    assert decode(dialogue.prompt) == FIRST
    counted = [id for id, counts in zip(dialogue.answer, dialogue.counted, strict=True) if counts]
    assert decode(counted) == "red<|im_end|>blue<|im_end|>"
    with pytest.raises(ValueError, match="messages need a chat template"):
        prompt_tokens(VOCABULARY, None, [[USER]])


def test_an_observation_after_messages_is_what_the_template_writes_around_it():
    """Prompt, answer, stop token and reply are the ids of the whole dialogue."""
    (whole,) = prompt_tokens(VOCABULARY, TEMPLATE, [[USER, RED, MORE]])
    (prompt,) = prompt_tokens(VOCABULARY, TEMPLATE, [[USER]])
    red = TOKENIZER.encode("red").ids
    assert [*prompt, *red, STOP, *encode_reply(VOCABULARY, TEMPLATE, [MORE])] == whole
    endless = ChatTemplate({"default": "{% for m in messages %}{{ m.content }}{% endfor %}"})
    with pytest.raises(ValueError, match="ends the assistant's turn with no special token"):
        encode_reply(VOCABULARY, endless, [MORE])


def scripted_lab(*answers):
    """The lab, with one answer for each turn."""
    said = [[*TOKENIZER.encode(answer).ids, STOP] for answer in answers]

    def draw(params, prompts, key, samples, first=0):
        ids = said.pop(0)
        row = np.zeros((1, 1, LAB.answer_length), np.int32)
        row[0, 0, : len(ids)] = ids
        mask = np.arange(row.shape[-1]) < len(ids)
        logps = jnp.zeros(row.shape)
        return Rollout(Trajectory(None, row, mask[None, None]), logps, logps, np.ones((1, 1), bool))

    return LAB._replace(draw=draw)


@pytest.mark.parametrize("observation", ["One more!", [MORE]])
def test_an_episode_after_messages_has_the_ids_of_its_dialogue(observation):
    task = text_task(
        [[USER], [USER]],
        None,
        objective="return",
        heldout=1,
        step=lambda index, history, answer: (observation, 1.0, len(history) == 1),
        max_turns=2,
    )
    lab = scripted_lab("red", "blue")
    prompts = make_prompts(lab, task, np.array([0]))
    rollout, _ = task_rollout(lab, task, None, prompts, jax.random.key(0), 1, episode_length=250)
    trajectory = jax.tree.map(lambda x: np.asarray(x)[:, 0], rollout.trajectory)
    prompt, read, counted = texts(trajectory)
    assert prompt == FIRST
    assert read == f"red<|im_end|>\n{SECOND}blue<|im_end|>"
    assert counted == "red<|im_end|>blue<|im_end|>"


def test_messages_after_a_text_are_refused_by_the_number_of_the_prompt():
    def step(index, history, answer):
        return [MORE], 1.0, False

    given = {"objective": "return", "heldout": 1, "step": step, "max_turns": 2}
    task, lab = text_task(["a", "b"], None, **given), scripted_lab("red", "blue")
    prompts = make_prompts(lab, task, np.array([0]))
    with pytest.raises(UserError, match=r"observation at prompt 0, turn 0 .* this one is a text"):
        task_rollout(lab, task, None, prompts, jax.random.key(0), 1, episode_length=250)
