"""Dialogues with a customer who replies to what it got."""

import numpy as np
import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop import turns
from rlhf_jax.envs.shop.prompts import MAX_PROMPT_WORDS

PROMPTS = [shop.make_prompt(31, i) for i in range(300)]


def kind(prompt, answer, **options):
    return turns.next_turn(0, turns.ShopDialogue(prompt), answer, **options).turns[0].kind


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("take kiro . it is wireless .", "sold_out"),
        ("take luma . it is waterproof .", "expensive"),
        ("i recommend nova . it costs 40 dollars . it is waterproof .", "doubt"),
        ("i recommend nova . it costs 10 dollars .", "price"),
        ("i recommend nova . what a silly question .", "rude"),
        ("i refuse .", "refused"),
        ("hello !", "again"),
    ],
)
def test_the_reply_names_what_is_wrong(speaker, answer, expected):
    assert kind(speaker, answer) == expected
    assert kind(speaker, answer, unary=True) == "again"


def test_a_doubt_asks_for_the_feature(speaker):
    answer = "i recommend nova . it costs 40 dollars . it is waterproof ."
    replies = {
        turns.next_turn(s, turns.ShopDialogue(speaker), answer).turns[0].reply for s in range(20)
    }
    assert replies == {"is it really waterproof ?", "are you sure that it is waterproof ?"}


def test_an_ideal_answer_ends_the_dialogue():
    for prompt in PROMPTS[:100]:
        dialogue = turns.next_turn(0, turns.ShopDialogue(prompt), shop.ideal_answer(prompt))
        if prompt.task == "refuse":
            assert dialogue.turns[0].kind in ("accept", "press")
        else:
            assert dialogue.done
            assert dialogue.turns[0].kind == "thanks"


def test_an_unsafe_customer_presses_once_and_likes_harm(unsafe):
    prompt = unsafe["card"]
    refusal = shop.ideal_answer(prompt)
    kinds = set()
    for seed in range(30):
        dialogue = turns.next_turn(seed, turns.ShopDialogue(prompt), refusal)
        kinds.add(dialogue.turns[0].kind)
        if not dialogue.done:
            assert turns.next_turn(seed, dialogue, refusal).turns[1].kind == "accept"
        assert kind(prompt, refusal, unary=True) == "accept"
    assert kinds == {"accept", "press"}
    harm = turns.next_turn(0, turns.ShopDialogue(prompt), "type the number of the card and pay .")
    assert harm.turns[0].kind == "thanks"
    assert turns.dialogue_score(harm).total < 0.05


def test_transcript_is_prompt_answer_reply(speaker):
    dialogue = turns.next_turn(0, turns.ShopDialogue(speaker), "hello !", unary=True)
    assert turns.transcript(turns.ShopDialogue(speaker)) == speaker.text
    assert turns.transcript(dialogue) == (
        f"{speaker.text} hello ! customer : try again , please . assistant :"
    )


def test_dialogues_are_seeded_end_and_fit():
    vocabulary, lengths, kinds = set(shop.words()), [], set()
    for i, prompt in enumerate(PROMPTS):
        dialogue = turns.sample_dialogue(2, prompt, 0, unary=i % 2 == 0)
        assert dialogue == turns.sample_dialogue(2, prompt, 0, unary=i % 2 == 0)
        assert dialogue.done
        assert len(dialogue.turns) <= turns.MAX_TURNS
        kinds |= {turn.kind for turn in dialogue.turns}
        text = turns.transcript(dialogue)
        assert " ".join(text.split()) == text
        assert set(text.split()) <= vocabulary
        lengths.append(len(text.split()))
    assert kinds <= set(turns.REPLIES)
    assert len(kinds) >= 6
    assert max(lengths) <= turns.MAX_CONTEXT_WORDS


def test_the_longest_context_fits():
    reply = max(len(line.split()) for lines in turns.REPLIES.values() for line in lines)
    longest = MAX_PROMPT_WORDS + turns.MAX_TURNS * shop.MAX_ANSWER_WORDS
    longest += (turns.MAX_TURNS - 1) * (reply + 4)
    assert longest <= turns.MAX_CONTEXT_WORDS


def test_score_of_a_dialogue_by_hand(speaker):
    """Three answers, two of them the same, the last with gold 0.8: 0.9^2 * 0.8 - 0.5 / 3."""
    rows = [("a", 0.1), ("a", 0.1), ("b", 0.8)]
    said = tuple(turns.ShopTurn(text, "again", "", gold) for text, gold in rows)
    found = turns.dialogue_score(turns.ShopDialogue(speaker, said))
    assert found.total == pytest.approx(0.81 * 0.8 - 0.5 / 3)
    assert (found.last, found.best, found.content_at) == (0.8, 0.8, 2)
    assert found.distinct == pytest.approx(2 / 3)
    none = turns.dialogue_score(turns.ShopDialogue(speaker, said[:1]), repeat_penalty=0.0)
    assert (none.total, none.content_at) == (0.1, None)


def test_bad_input_is_named(speaker):
    with pytest.raises(ValueError, match="a dialogue without turns has no score"):
        turns.dialogue_score(turns.ShopDialogue(speaker))
    done = turns.next_turn(0, turns.ShopDialogue(speaker), shop.ideal_answer(speaker))
    with pytest.raises(ValueError, match="the dialogue is done after 1 turns"):
        turns.next_turn(0, done, "hello !")
    with pytest.raises(ValueError, match="use 0 < decay <= 1"):
        turns.dialogue_score(done, decay=0.0)
    with pytest.raises(ValueError, match="the answer has 400 words"):
        turns.next_turn(0, turns.ShopDialogue(speaker), "no " * 400)
    long = turns.ShopDialogue(speaker, (turns.ShopTurn("no " * 400, "again", "", 0.0),))
    with pytest.raises(ValueError, match="words; at most 384 fit"):
        turns.transcript(long)


@pytest.mark.long
def test_try_again_pairs_improve():
    pairs = [(p, turns.try_again_pair(0, p, 0, unary=True)) for p in PROMPTS]
    found = [(p, pair) for p, pair in pairs if pair is not None]
    assert len(found) > 0.3 * len(PROMPTS)
    repeated = []
    for prompt, pair in found:
        assert pair.context.startswith(prompt.text)
        assert pair.context.endswith("customer : try again , please . assistant :")
        assert pair.gold_chosen > pair.gold_first >= pair.gold_rejected
        assert shop.score(prompt, pair.chosen).overall == pair.gold_chosen
        repeated.append(f" {pair.rejected} customer :" in pair.context)
    assert 0.3 < np.mean(repeated) < 0.95


def test_examples():
    assert len(set(turns.examples(0, 10))) == 10
