"""Answers that do what was asked: the best product, the ideal answer and its paraphrases."""

from random import Random
from typing import NamedTuple

from rlhf_jax.envs.shop import explanations, replies
from rlhf_jax.envs.shop.catalogue import NUMBER_WORDS, Product
from rlhf_jax.envs.shop.fluency import freshness
from rlhf_jax.envs.shop.prompts import Prompt

MAX_ANSWER_WORDS = 47  # 48 with the end token
HURRIED_WORDS, PATIENT_WORDS = 24, 28  # longer answers are less concise


def split_words(text: str) -> list[str]:
    """The words of a text of this world: everything is written with single spaces between words,
    punctuation included, so this is also the tokenizer's pre-tokenisation."""
    return text.split()


def word_limit(prompt: Prompt) -> int:
    """The most words of a concise answer; customers in a hurry want fewer."""
    return HURRIED_WORDS if prompt.tone == "hurried" else PATIENT_WORDS


def product_fit(prompt: Prompt, product: Product) -> float:
    """How good a purchase looks before it is made, in [0, 1].

    fit = 0.8 * mean over wanted features of (yes 1, unknown 1/2, no 0) + 0.2 * (stars - 1) / 4,
    a fifth of that over budget, 0 when sold out.
    """
    if not product.in_stock:
        return 0.0
    beliefs = [{True: 1.0, None: 0.5, False: 0.0}[product.shown_value(f)] for f in prompt.wanted]
    fit = 0.8 * sum(beliefs) / max(len(beliefs), 1) + 0.05 * (product.stars - 1)
    return fit if product.price <= prompt.budget else 0.2 * fit


def best_product(prompt: Prompt) -> Product:
    """The product with the highest fit; the first one in a tie."""
    return max(prompt.products, key=lambda product: product_fit(prompt, product))


class Pitch(NamedTuple):
    """What to say of a product: price or None, and features that it has, lacks or may have."""

    name: str
    category: str
    price: int | None
    yes: tuple[str, ...]
    no: tuple[str, ...]
    maybe: tuple[str, ...]


def true_pitch(prompt: Prompt, product: Product, features: tuple[str, ...]) -> Pitch:
    """The price and these features as the list shows them; unknown ones are left open."""
    values = {feature: product.shown_value(feature) for feature in features}
    yes, no, maybe = (tuple(f for f, v in values.items() if v is kind)
                      for kind in (True, False, None))  # fmt: skip
    return Pitch(product.name, prompt.category, product.price, yes, no, maybe)


def fill(template: str, **slots: object) -> str:
    """The template with its slots filled; a slot given a list takes its items in turn."""
    queues = {k: list(v) if isinstance(v, list | tuple) else None for k, v in slots.items()}
    written = []
    for word in template.split():
        key = word[1:-1]
        if word.startswith("{"):
            queue = queues[key]
            word = str(slots[key] if queue is None else queue.pop(0))
        written.append(word)
    return " ".join(written)


def ideal_answer(prompt: Prompt) -> str:
    """A polite, short and true answer that does what the prompt asks for."""
    if prompt.task == "refuse":
        return f"{replies.refusals(prompt.topic)[0]} {replies.OFFERS[1]}"
    if prompt.task == "howto":
        return f"{replies.GREETINGS[1]} {explanations.HOWTO[prompt.topic][0]}"
    pitch = true_pitch(prompt, best_product(prompt), prompt.wanted)
    yes = list(pitch.yes)
    sentences = [fill(replies.GLADLY, name=pitch.name)]
    if yes:
        sentences.append(fill(replies.PRICE_AND[0], price=pitch.price, yes=yes.pop(0)))
    else:
        sentences.append(fill(replies.PRICE[0], price=pitch.price))
    sentences += [fill(replies.IS[0], yes=f) for f in yes]
    sentences += [fill(replies.IS_NOT[0], no=f) for f in pitch.no]
    sentences += [fill(replies.HEDGES[0], maybe=f) for f in pitch.maybe]
    return " ".join(sentences)


def ideal_variant(seed: int, prompt: Prompt, index: int) -> str:
    """A paraphrase of the ideal answer, as good in every respect; a function of its arguments.

    It settles all that was asked, has one kind sentence, and is short enough for the customer. If a
    dozen draws are too long or repeat themselves it is the ideal answer.
    """
    rng = Random(f"ideal/{seed}/{index}/{prompt.text}")
    for _ in range(12):
        sentences = good_sentences(rng, prompt, prompt.wanted)
        words = split_words(" ".join(sentences))
        if len(words) <= word_limit(prompt) and freshness(words) == 1.0:
            return " ".join(words)
    return ideal_answer(prompt)


def good_sentences(rng: Random, prompt: Prompt, features: tuple[str, ...]) -> list[str]:
    """What was asked for, with one kind sentence.

    Args:
      features: of what to speak, if the task is to recommend.
    """
    if prompt.task == "refuse":
        return refuse(rng, prompt, prompt.topic if rng.random() < 0.7 else "")
    if prompt.task == "howto":
        return with_greeting(rng, [rng.choice(explanations.HOWTO[prompt.topic])])
    pitch = true_pitch(prompt, best_product(prompt), features)
    gladly = rng.random() < 0.5
    sentences = present_product(rng, pitch, gladly=gladly)
    return sentences if gladly else with_greeting(rng, sentences)


def with_greeting(rng: Random, sentences: list[str]) -> list[str]:
    """The sentences after a greeting, or, one time in four, before a closing."""
    if rng.random() < 0.75:
        return [rng.choice(replies.GREETINGS), *sentences]
    return [*sentences, rng.choice(replies.CLOSINGS)]


def refuse(rng: Random, prompt: Prompt, topic: str) -> list[str]:
    """A refusal with regret, of this topic or (if empty) of none, and an offer of other help."""
    offer = fill(rng.choice(replies.OFFERS), cat=prompt.category)
    return [rng.choice(replies.refusals(topic)), offer]


def present_product(rng: Random, pitch: Pitch, *, gladly: bool) -> list[str]:
    """A recommendation and all statements of the pitch, as one of many paraphrases."""
    price: int | str | None = pitch.price
    if pitch.price is not None and rng.random() < 0.15:
        price = NUMBER_WORDS[pitch.price]
    yes = list(pitch.yes)
    facts: dict[str, object] = {"name": pitch.name, "cat": pitch.category, "price": price}
    style = rng.random()
    if gladly:
        sentences = [fill(rng.choice(replies.RECOMMEND_GLADLY), **facts)]
    elif yes and style < 0.35:
        sentences = [fill(rng.choice(replies.RECOMMEND_YES), yes=[yes.pop(0)], **facts)]
    elif price is not None and style < 0.6:
        sentences = [fill(rng.choice(replies.RECOMMEND_PRICE), **facts)]
        price = None
    else:
        sentences = [fill(rng.choice(replies.RECOMMEND), **facts)]
    if price is not None:
        sentences.append(_price(rng, facts, yes))
    return sentences + _features(rng, pitch.name, yes, list(pitch.no), list(pitch.maybe))


def _price(rng: Random, facts: dict[str, object], yes: list[str]) -> str:
    """The price, often with one or two features, which are taken from the list."""
    if len(yes) == 2 and rng.random() < 0.4:
        template, taken = rng.choice(replies.PRICE_BOTH), [yes.pop(0), yes.pop(0)]
    elif yes and rng.random() < 0.5:
        template, taken = rng.choice(replies.PRICE_AND), [yes.pop(0)]
    else:
        template, taken = rng.choice(replies.PRICE), []
    return fill(template, yes=taken, **facts)


def _features(rng: Random, name: str, yes: list[str], no: list[str], maybe: list[str]) -> list[str]:
    """Sentences about the features that it has, lacks and may have."""
    sentences = []
    if len(yes) >= 2 and rng.random() < 0.8:
        sentences.append(fill(rng.choice(replies.IS_AND), name=name, yes=[yes.pop(0), yes.pop(0)]))
    elif yes and no and rng.random() < 0.8:
        template = rng.choice(replies.IS_BUT)
        sentences.append(fill(template, name=name, yes=yes.pop(0), no=no.pop(0)))
    elif yes and maybe and rng.random() < 0.3:
        template = rng.choice(replies.YES_MAYBE)
        sentences.append(fill(template, name=name, yes=yes.pop(0), maybe=maybe.pop(0)))
    sentences += [fill(rng.choice(replies.IS), name=name, yes=feature) for feature in yes]
    sentences += [fill(rng.choice(replies.IS_NOT), name=name, no=feature) for feature in no]
    return sentences + [fill(rng.choice(replies.HEDGES), name=name, maybe=f) for f in maybe]
