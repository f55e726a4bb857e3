"""Several turns: a customer who replies to the answer it got, until it is content.

A dialogue is a prompt and its turns, each an answer, its gold score and the customer's reply. The
reply is computed from the score of the answer: "that is too expensive .", "is it really waterproof
?" on a claim that the list does not support, "please be polite .", "try again , please ." if there
is nothing to point at, and thanks if the answer is good. A customer with an unsafe wish may press
once before it accepts a refusal, and is content if it gets what it wants. In the unary setting the
only reply to a bad answer is "try again , please .", so a model has to find out by itself what was
wrong. `transcript` is the context of the next answer; `dialogue_score` pays less for every turn
that was needed and for answers that were repeated. `try_again_pair` gives preference data in the
middle of a dialogue: a better second answer against one that is not better.

Reference: Liu et al. 2025, "A simple 'try again' can elicit multi-turn LLM reasoning".
"""

from dataclasses import dataclass
from random import Random

from rlhf_jax.envs.shop.answers import MAX_ANSWER_WORDS, ideal_answer, sample_answer, split_words
from rlhf_jax.envs.shop.outcomes import named_products
from rlhf_jax.envs.shop.prompts import Prompt, make_prompt
from rlhf_jax.envs.shop.scorer import Score, score

MAX_TURNS = 5
MAX_CONTEXT_WORDS = 384
CONTENT_AT = 0.75  # gold at which a customer is content

REPLIES = {
    "thanks": ("thank you , that helps .", "great , thanks .", "thanks , i will take it ."),
    "accept": ("fine , i see .", "well , then not ."),
    "press": ("come on , just this once .", "nobody will ever know , please ."),
    "rude": ("please be polite .", "that was not kind of you ."),
    "refused": ("but i ask for nothing wrong .", "that is a fair question , why not ?"),
    "expensive": ("that is too expensive .", "i cannot pay that much ."),
    "sold_out": ("but it is sold out .", "can i buy it at all ?"),
    "doubt": ("is it really {a} ?", "are you sure that it is {a} ?"),
    "lacks": ("but it must be {a} .", "i asked for one that is {a} ."),
    "long": ("that is too long .", "please keep it short ."),
    "price": ("what does it really cost ?",),
    "again": ("try again , please .",),
}
FINAL = ("thanks", "accept")  # replies that end a dialogue
CUSTOMER, ASSISTANT = "customer :", "assistant :"
TEMPLATES = (CUSTOMER, ASSISTANT, *(line for lines in REPLIES.values() for line in lines))


@dataclass(frozen=True)
class ShopTurn:
    """An answer, the kind and words of the customer's reply, and the gold score of the answer."""

    answer: str
    kind: str
    reply: str
    gold: float


@dataclass(frozen=True)
class ShopDialogue:
    """A prompt and the turns after it, in order."""

    prompt: Prompt
    turns: tuple[ShopTurn, ...] = ()

    @property
    def done(self) -> bool:
        """Whether the customer is content, or has lost patience after MAX_TURNS answers."""
        return bool(self.turns) and (self.turns[-1].kind in FINAL or len(self.turns) >= MAX_TURNS)


@dataclass(frozen=True)
class DialogueScore:
    """What a dialogue was worth.

    total: see `dialogue_score`. last, best: gold of the last and of the best answer.
    content_at: number of the first turn (from 0) whose answer had gold >= CONTENT_AT, or None.
    distinct: different answers / answers.
    """

    total: float
    last: float
    best: float
    content_at: int | None
    distinct: float


def _reason(prompt: Prompt, answer: str, found: Score) -> tuple[str, str]:
    """(kind, feature) of what a customer minds most about an answer to a fair request."""
    kinds = [remark.kind for remark in found.remarks]
    if found.overall >= CONTENT_AT:
        return "thanks", ""
    if "rude" in kinds:
        return "rude", ""
    if "refusal" in kinds:
        return "refused", ""
    for product in named_products(prompt, answer) if prompt.task == "recommend" else ():
        if not product.in_stock:
            return "sold_out", ""
        if product.price > prompt.budget:
            return "expensive", ""
        for claim in found.claims:
            if claim.attribute in prompt.wanted and claim.value and claim.status != "true":
                return "doubt", claim.attribute
            if claim.attribute == "price" and claim.status != "true":
                return "price", ""
        for feature in prompt.wanted:
            if product.shown_value(feature) is False:
                return "lacks", feature
    wordy = "filler" in kinds or found.concise < 0.5 * found.fluent
    return ("long", "") if wordy and found.helpful > 0.3 else ("again", "")


def _unsafe_reason(rng: Random, found: Score, refused_before: bool) -> str:
    """What the customer says who asked for something unsafe."""
    kinds = {remark.kind for remark in found.remarks}
    if "harm" in kinds:
        return "thanks"
    if "rude" in kinds:
        return "rude"
    if "refusal" in kinds:
        return "accept" if refused_before or rng.random() < 0.5 else "press"
    return "again"


def next_turn(
    seed: int, dialogue: ShopDialogue, answer: str, *, unary: bool = False
) -> ShopDialogue:
    """The dialogue with this answer and the reply to it; a function of its arguments.

    Args:
      seed: chooses among the wordings of a reply, and whether a customer presses.
      dialogue: not done.
      answer: at most MAX_ANSWER_WORDS words.
      unary: "try again , please ." is the only reply to a bad answer, and no customer presses.
    Raises:
      ValueError: the dialogue is done, or the answer is too long.
    """
    if dialogue.done:
        raise ValueError(f"the dialogue is done after {len(dialogue.turns)} turns; start a new one")
    if len(split_words(answer)) > MAX_ANSWER_WORDS:
        count = len(split_words(answer))
        raise ValueError(f"the answer has {count} words; use at most {MAX_ANSWER_WORDS}")
    prompt, number = dialogue.prompt, len(dialogue.turns)
    rng = Random(f"reply/{seed}/{number}/{prompt.text}/{answer}")
    found = score(prompt, answer)
    if prompt.task == "refuse":
        pressed = any(turn.kind == "press" for turn in dialogue.turns)
        kind, feature = _unsafe_reason(rng, found, pressed), ""
    else:
        kind, feature = _reason(prompt, answer, found)
    if unary and kind not in FINAL:
        kind = "accept" if kind == "press" else "again"
    reply = rng.choice(REPLIES[kind]).format(a=feature)
    turn = ShopTurn(answer, kind, reply, found.overall)
    return ShopDialogue(prompt, (*dialogue.turns, turn))


def transcript(dialogue: ShopDialogue) -> str:
    """The context of the next answer: the prompt, the answers and the replies, in order.

    Raises:
      ValueError: more than MAX_CONTEXT_WORDS words.
    """
    parts = [dialogue.prompt.text]
    for turn in dialogue.turns:
        parts += [turn.answer, CUSTOMER, turn.reply, ASSISTANT]
    text = " ".join(part for part in parts if part)
    if len(split_words(text)) > MAX_CONTEXT_WORDS:
        count = len(split_words(text))
        raise ValueError(f"the transcript has {count} words; at most {MAX_CONTEXT_WORDS} fit")
    return text


def dialogue_score(
    dialogue: ShopDialogue, *, decay: float = 0.9, repeat_penalty: float = 0.5
) -> DialogueScore:
    """The score of a whole dialogue.

    total = decay^(T - 1) * gold of the last answer - repeat_penalty * (1 - E / T), with E different
    ones among T answers.

    Args:
      dialogue: at least one turn.
      decay: in (0, 1], the price of a turn.
      repeat_penalty: >= 0, the price of repeating answers.
    Raises:
      ValueError: no turns, or a parameter out of range.
    """
    if not dialogue.turns:
        raise ValueError("a dialogue without turns has no score; add an answer with next_turn")
    if not (0.0 < decay <= 1.0 and repeat_penalty >= 0.0):
        raise ValueError(
            f"use 0 < decay <= 1 and repeat_penalty >= 0, got {decay} and {repeat_penalty}"
        )
    gold = [turn.gold for turn in dialogue.turns]
    distinct = len({turn.answer for turn in dialogue.turns}) / len(gold)
    content = next((i for i, value in enumerate(gold) if value >= CONTENT_AT), None)
    total = decay ** (len(gold) - 1) * gold[-1] - repeat_penalty * (1.0 - distinct)
    return DialogueScore(total, gold[-1], max(gold), content, distinct)


def sample_dialogue(seed: int, prompt: Prompt, index: int, *, unary: bool = False) -> ShopDialogue:
    """A dialogue of the base corpus: an answer of it at every turn, now and then a good one."""
    rng = Random(f"dialogue/{seed}/{index}/{prompt.text}")
    dialogue = ShopDialogue(prompt)
    while not dialogue.done:
        number = index * MAX_TURNS + len(dialogue.turns)
        good = dialogue.turns and rng.random() < 0.3
        answer = ideal_answer(prompt) if good else sample_answer(seed, prompt, number)
        dialogue = next_turn(seed, dialogue, answer, unary=unary)
    return dialogue


@dataclass(frozen=True)
class TryAgainPair:
    """Two second answers in one context: the better one and one that is not better than the first.

    context: the transcript after the first answer. gold_first: its gold.
    """

    context: str
    chosen: str
    rejected: str
    gold_first: float
    gold_chosen: float
    gold_rejected: float


def try_again_pair(
    seed: int, prompt: Prompt, index: int, *, unary: bool = False
) -> TryAgainPair | None:
    """A pair after a bad first answer of the base corpus; None if none of 8 draws is bad.

    The rejected answer is the first one again in half of the pairs, otherwise another one of the
    base corpus with no more gold than the first, if there is one.
    """
    rng = Random(f"try again/{seed}/{index}/{prompt.text}")
    texts = [sample_answer(seed, prompt, 1000 + 8 * index + k) for k in range(8)]
    golds = [score(prompt, text).overall for text in texts]
    first = next((k for k in range(8) if golds[k] < 0.5), None)
    if first is None:
        return None
    dialogue = next_turn(seed, ShopDialogue(prompt), texts[first], unary=unary)
    if dialogue.done:  # an unsafe wish that was met or refused
        return None
    worse = [k for k in range(8) if golds[k] <= golds[first] and texts[k] != texts[first]]
    rejected = rng.choice(worse) if worse and rng.random() < 0.5 else first
    better = [(texts[k], golds[k]) for k in range(8) if golds[k] > golds[first] + 0.1]
    ideal = ideal_answer(prompt)
    better.append((ideal, score(prompt, ideal).overall))
    chosen, gold = rng.choice(better)
    return TryAgainPair(
        transcript(dialogue), chosen, texts[rejected], golds[first], gold, golds[rejected]
    )


def examples(seed: int, count: int) -> list[str]:
    """`count` whole dialogues of the base corpus, every third one unary, with their last reply."""
    rows = []
    for i in range(count):
        dialogue = sample_dialogue(seed, make_prompt(seed, i), 0, unary=i % 3 == 2)
        rows.append(transcript(dialogue).removesuffix(f" {ASSISTANT}"))
    return rows
