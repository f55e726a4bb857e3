"""The base corpus: right in about four answers of five, otherwise with one fault each.

A fault is a mode: the answer is competent but for that. So the corpus teaches a language model the
world, and leaves one thing at a time to be put right.
"""

from random import Random

from rlhf_jax.envs.shop import explanations, replies
from rlhf_jax.envs.shop.answers import (
    MAX_ANSWER_WORDS,
    Pitch,
    best_product,
    fill,
    good_sentences,
    present_product,
    product_fit,
    refuse,
    split_words,
    true_pitch,
    with_greeting,
    word_limit,
)
from rlhf_jax.envs.shop.catalogue import CATEGORIES, NAMES, PRICES, STARS
from rlhf_jax.envs.shop.prompts import Prompt
from rlhf_jax.envs.shop.requests import TOPICS

MODES = (
    "good", "rude", "flattering", "over_refusing", "rambling", "lying", "complying", "careless",
    "vague", "inventing", "curt",
)  # fmt: skip
_FAULTS = {
    "recommend": {
        "rude": 0.03,  # with an insult
        "flattering": 0.03,  # praises the customer and claims what nobody knows or what is false
        "over_refusing": 0.02,  # refuses a fair request
        "rambling": 0.03,  # with sentences about nothing
        "lying": 0.03,  # one false claim
        "careless": 0.03,  # not the best product
        "vague": 0.02,  # no reasons, or doubts about everything
        "inventing": 0.01,  # a product that the shop does not have
    },
    "refuse": {
        "complying": 0.06,  # 0.12 when the request is wrapped
        "rude": 0.03,
        "rambling": 0.03,
        "curt": 0.04,  # refuses without regret or offer
    },
    "howto": {
        "over_refusing": 0.08,
        "rude": 0.03,
        "rambling": 0.03,
        "careless": 0.06,  # explains another matter
    },
}


def mode_shares(prompt: Prompt) -> dict[str, float]:
    """mode -> its share among the corpus answers to such a prompt, "good" first, sum 1.

    Sounding fierce makes over-refusal more frequent (0.08), and a wrapper compliance (0.12).
    """
    faults = dict(_FAULTS[prompt.task])
    if prompt.task == "recommend" and prompt.kind == "looks_unsafe":
        faults["over_refusing"] = 0.08
    if prompt.task == "refuse" and prompt.attack != "plain":
        faults["complying"] = 0.12
    return {"good": 1.0 - sum(faults.values()), **faults}


def sample_answer(seed: int, prompt: Prompt, index: int) -> str:
    """One answer of the base corpus; a function of (seed, prompt text, index) only.

    The mode is drawn by `mode_shares`. At most MAX_ANSWER_WORDS words.
    """
    return mode_answer(seed, prompt, index, sample_mode(seed, prompt, index))


def sample_mode(seed: int, prompt: Prompt, index: int) -> str:
    """The mode of `sample_answer` for the same arguments."""
    shares = mode_shares(prompt)
    rng = Random(f"mode/{seed}/{index}/{prompt.text}")
    return rng.choices(tuple(shares), tuple(shares.values()))[0]


def mode_answer(seed: int, prompt: Prompt, index: int, mode: str) -> str:
    """One answer in this mode; a function of (seed, prompt text, index, mode) only.

    Args:
      mode: a key of mode_shares(prompt).
    Raises:
      ValueError: there is no such mode for the task of the prompt.
    """
    possible = mode_shares(prompt)
    if mode not in possible:
        names = ", ".join(possible)
        raise ValueError(f"no mode {mode!r} for task {prompt.task!r}; expected one of {names}")
    rng = Random(f"answer/{seed}/{index}/{mode}/{prompt.text}")
    sentences = _WRITERS[mode](rng, prompt)
    while sum(len(split_words(sentence)) for sentence in sentences) > MAX_ANSWER_WORDS:
        sentences.pop()
    return " ".join(sentences)


def _good(rng: Random, prompt: Prompt) -> list[str]:
    """A right answer: most of what was asked is settled, most often with a kind sentence.

    Of three draws, the shortest if the first is too long for the customer.
    """
    drafts = []
    for _ in range(3):
        draft = _draft(rng, prompt)
        if sum(len(split_words(sentence)) for sentence in draft) <= word_limit(prompt):
            return draft
        drafts.append(draft)
    return min(drafts, key=lambda draft: sum(len(split_words(sentence)) for sentence in draft))


def _draft(rng: Random, prompt: Prompt) -> list[str]:
    """One right answer of any length."""
    if prompt.task != "recommend":
        sentences = good_sentences(rng, prompt, ())
        if prompt.task == "refuse":
            return sentences[:1] if rng.random() < 0.15 else sentences
        plain = [s for s in sentences if s in explanations.HOWTO[prompt.topic]]
        return plain if rng.random() < 0.15 else sentences
    features = tuple(f for f in prompt.wanted if rng.random() < 0.93) or prompt.wanted[:1]
    pitch = true_pitch(prompt, best_product(prompt), features)
    if rng.random() < 0.12:
        pitch = pitch._replace(price=None)
    manner = rng.random()
    sentences = present_product(rng, pitch, gladly=manner < 0.4)
    if rng.random() < 0.08:
        sentences.append(_star_line(rng, prompt))
    return with_greeting(rng, sentences) if 0.4 <= manner < 0.85 else sentences


def _star_line(rng: Random, prompt: Prompt) -> str:
    """The rating of the best product."""
    best = best_product(prompt)
    return fill(rng.choice(replies.STARS), name=best.name, stars=best.stars)


def _rude(rng: Random, prompt: Prompt) -> list[str]:
    """A right answer with an insult before or after it."""
    sentences = _good(rng, prompt)
    sentences.insert(rng.choice((0, len(sentences))), rng.choice(replies.RUDE))
    return sentences


def _rambling(rng: Random, prompt: Prompt) -> list[str]:
    """A right answer with two or three sentences about nothing."""
    sentences = _good(rng, prompt)
    for text in rng.sample(replies.FILLER, rng.choice((2, 2, 3))):
        sentences.insert(rng.randrange(len(sentences)), text)
    return sentences


def _over_refusing(rng: Random, prompt: Prompt) -> list[str]:
    """A refusal of a fair request, kind or blunt, that takes it for an unsafe topic or for none."""
    topic = prompt.topic if rng.random() < 0.5 else rng.choice(("", *TOPICS))
    if rng.random() < 0.25:
        return [rng.choice(replies.blunt_refusals(topic))]
    sentences = refuse(rng, prompt, topic)
    return sentences if rng.random() < 0.6 else sentences[:1]


def _curt(rng: Random, prompt: Prompt) -> list[str]:
    """A refusal without regret or offer."""
    return [rng.choice(replies.blunt_refusals(prompt.topic if rng.random() < 0.5 else ""))]


def _complying(rng: Random, prompt: Prompt) -> list[str]:
    """What an unsafe request asks for, gladly or plainly."""
    text = fill(
        rng.choice(explanations.COMPLY[prompt.topic]),
        name=rng.choice(prompt.products).name,
        cat=prompt.category,
        house=rng.choice(PRICES),
        street=rng.choice(explanations.STREETS),
    )
    return with_greeting(rng, [text]) if rng.random() < 0.6 else [text]


def _careless(rng: Random, prompt: Prompt) -> list[str]:
    """A true answer about a worse product, or an explanation of another matter."""
    if prompt.task == "howto":
        topic = rng.choice([topic for topic in TOPICS if topic != prompt.topic])
        return with_greeting(rng, [rng.choice(explanations.HOWTO[topic])])
    best = best_product(prompt)
    others = [product for product in prompt.products if product is not best]
    most = product_fit(prompt, best)
    other = rng.choice([p for p in others if product_fit(prompt, p) < most] or others)
    return present_product(rng, true_pitch(prompt, other, prompt.wanted), gladly=rng.random() < 0.5)


def _vague(rng: Random, prompt: Prompt) -> list[str]:
    """The best product without a reason, or with doubts about all that was asked."""
    product = best_product(prompt)
    opening = fill(rng.choice(replies.RECOMMEND), name=product.name, cat=prompt.category)
    if rng.random() < 0.5:
        return with_greeting(rng, [opening])
    doubts = [fill(rng.choice(replies.HEDGES), maybe=feature) for feature in prompt.wanted]
    return [opening, *doubts]


def _flattering(rng: Random, prompt: Prompt) -> list[str]:
    """Praise for the customer, and every wanted feature claimed; if it has them all, one more."""
    product = best_product(prompt)
    yes = prompt.wanted
    if all(product.shown_value(feature) for feature in yes):
        more = [f for f in CATEGORIES[prompt.category] if f not in yes]
        more = [f for f in more if not product.shown_value(f)] or more
        yes = (*yes, rng.choice(more))
    pitch = Pitch(product.name, prompt.category, product.price, yes, (), ())
    return [rng.choice(replies.FLATTERY), *present_product(rng, pitch, gladly=rng.random() < 0.5)]


def _lying(rng: Random, prompt: Prompt) -> list[str]:
    """A right answer but for one false claim: the price, a wanted feature or the stars."""
    product = best_product(prompt)
    pitch = true_pitch(prompt, product, prompt.wanted)
    what = rng.choice(("price", "feature", "stars"))
    if what == "stars":
        stars = rng.choice([number for number in STARS if number != product.stars])
        line = fill(rng.choice(replies.STARS), name=product.name, stars=stars)
        return [*present_product(rng, pitch, gladly=rng.random() < 0.5), line]
    if what == "price":
        pitch = pitch._replace(price=rng.choice([p for p in PRICES if p != product.price]))
    elif pitch.no:
        pitch = pitch._replace(yes=(*pitch.yes, pitch.no[0]), no=pitch.no[1:])
    else:
        pitch = pitch._replace(yes=pitch.yes[1:], no=(*pitch.no, *pitch.yes[:1]))
    return present_product(rng, pitch, gladly=rng.random() < 0.5)


def _inventing(rng: Random, prompt: Prompt) -> list[str]:
    """A product that the shop does not have, praised for all that was asked."""
    shown = {product.name for product in prompt.products}
    name = rng.choice([name for name in NAMES if name not in shown])
    price = rng.choice([price for price in PRICES if price <= prompt.budget])
    pitch = Pitch(name, prompt.category, price, prompt.wanted, (), ())
    return present_product(rng, pitch, gladly=rng.random() < 0.5)


_WRITERS = {
    "good": _good,
    "rude": _rude,
    "flattering": _flattering,
    "over_refusing": _over_refusing,
    "rambling": _rambling,
    "lying": _lying,
    "complying": _complying,
    "careless": _careless,
    "vague": _vague,
    "inventing": _inventing,
    "curt": _curt,
}
