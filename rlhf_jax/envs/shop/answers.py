"""The base corpus: a stochastic grammar that writes good, wrong, false, rude and unsafe answers."""

from random import Random

from rlhf_jax.envs.shop import phrases
from rlhf_jax.envs.shop.catalogue import CATEGORIES, PRICES, Product
from rlhf_jax.envs.shop.prompts import Prompt

MAX_ANSWER_WORDS = 47  # 48 with the end token


def split_words(text: str) -> list[str]:
    """The words of a text of this world: everything is written with single spaces between words,
    punctuation included, so this is also the tokenizer's pre-tokenisation."""
    return text.split()


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


def ideal_answer(prompt: Prompt) -> str:
    """A polite, short and true answer that does what the prompt asks for."""
    if prompt.task == "refuse":
        return f"{phrases.REFUSALS[prompt.topic]} {phrases.OFFERS[1]}"
    if prompt.task == "howto":
        return f"{phrases.GREETINGS[1]} {phrases.HOWTO[prompt.topic][0]}"
    product = best_product(prompt)
    yes = [f for f in prompt.wanted if product.shown_value(f)]
    no = [f for f in prompt.wanted if product.shown_value(f) is False]
    sentences = [phrases.GLADLY.format(name=product.name)]
    if yes:
        sentences.append(phrases.PRICE_AND.format(num=product.price, a=yes[0]))
    else:
        sentences.append(phrases.PRICE[0].format(num=product.price))
    sentences += [phrases.IS.format(a=f) for f in yes[1:]]
    sentences += [phrases.IS_NOT.format(a=f) for f in no]
    sentences += [
        phrases.HEDGES[0].format(a=f) for f in prompt.wanted if product.shown_value(f) is None
    ]
    return " ".join(sentences)


def sample_answer(seed: int, prompt: Prompt, index: int) -> str:
    """One answer of the base corpus; a function of (seed, prompt text, index) only.

    Deliberately mixed: right and wrong products, true, unknown and false claims, polite and rude,
    short and rambling, refusing and complying whether or not that is right, a few garbled.
    At most MAX_ANSWER_WORDS words.
    """
    rng = Random(f"answer/{seed}/{index}/{prompt.text}")
    core = {"recommend": _recommend, "refuse": _meet_unsafe, "howto": _explain}[prompt.task]
    sentences = core(rng, prompt)
    if rng.random() < 0.12:
        sentences.insert(rng.randrange(len(sentences) + 1), rng.choice(phrases.RUDE))
    elif rng.random() < 0.5:
        sentences.insert(0, rng.choice(phrases.GREETINGS))
    if rng.random() < 0.2:
        sentences.append(rng.choice(phrases.CLOSINGS))
    while rng.random() < 0.22:
        sentences.insert(rng.randrange(1, len(sentences) + 1), rng.choice(phrases.FILLER))
    while sum(len(s.split()) for s in sentences) > MAX_ANSWER_WORDS:
        sentences.pop()
    text = " ".join(sentences)
    return _garble(rng, text) if rng.random() < 0.05 else text


def _recommend(rng: Random, prompt: Prompt) -> list[str]:
    """Usually a product with some claims; sometimes a needless refusal."""
    if rng.random() < (0.3 if prompt.kind == "looks_unsafe" else 0.05):
        return _refusal(rng, prompt)
    best = best_product(prompt)
    others = [p for p in prompt.products if p is not best]
    product = best if rng.random() < 0.45 else rng.choice(others)
    opening = rng.choice((*phrases.RECOMMEND, phrases.GLADLY)).format(name=product.name)
    return [opening, *_claims(rng, prompt, product)]


def _claims(rng: Random, prompt: Prompt, product: Product) -> list[str]:
    """Sentences about one product: price, features, hedges; some flattering or plainly wrong."""
    price = product.price if rng.random() < 0.85 else rng.choice(PRICES)
    features = [f for f in prompt.wanted if rng.random() < 0.8]
    if rng.random() < 0.12:
        features.append(rng.choice([f for f in CATEGORIES[prompt.category] if f not in features]))
    yes, no, unsure = [], [], []
    for feature in features:
        value = product.shown_value(feature)
        if value is None:
            value = rng.choices((True, False, None), (0.5, 0.1, 0.4))[0]
        elif rng.random() < (0.05 if value else 0.45):
            value = not value
        {True: yes, False: no, None: unsure}[value].append(feature)
    told_price = rng.random() < 0.6
    sentences = []
    if told_price and yes and rng.random() < 0.5:
        sentences.append(phrases.PRICE_AND.format(num=price, a=yes.pop(0)))
    elif told_price:
        sentences.append(rng.choice(phrases.PRICE).format(num=price))
    sentences += _state(rng, yes, no)
    sentences += [rng.choice(phrases.HEDGES).format(a=feature) for feature in unsure]
    if rng.random() < 0.12:
        stars = product.stars if rng.random() < 0.7 else 5
        sentences.append(phrases.STARS.format(num=stars))
    if rng.random() < (0.08 if product.in_stock else 0.4):
        sentences.append(phrases.IN_STOCK if product.in_stock else phrases.SOLD_OUT)
    return sentences


def _state(rng: Random, yes: list[str], no: list[str]) -> list[str]:
    """Sentences about the features that it has and those that it does not have."""
    if len(yes) >= 2 and rng.random() < 0.7:
        return [
            phrases.IS_AND.format(a=yes[0], b=yes[1]),
            *(phrases.IS.format(a=f) for f in yes[2:]),
            *(phrases.IS_NOT.format(a=f) for f in no),
        ]
    if yes and no and rng.random() < 0.7:
        both = phrases.IS_BUT.format(a=yes[0], b=no[0])
        return [both, *_state(rng, yes[1:], no[1:])]
    return [phrases.IS.format(a=f) for f in yes] + [phrases.IS_NOT.format(a=f) for f in no]


def _refusal(rng: Random, prompt: Prompt) -> list[str]:
    """A refusal, kind or blunt, sometimes with an offer to help otherwise."""
    topic = prompt.topic or rng.choice(phrases.TOPICS)
    style = rng.random()
    if style < 0.25:
        return [rng.choice(phrases.REFUSE_BLUNT)]
    opening = rng.choice(phrases.REFUSE_PLAIN) if style < 0.5 else phrases.REFUSALS[topic]
    offer = rng.choice(phrases.OFFERS).format(cat=prompt.category)
    return [opening, offer] if rng.random() < 0.5 else [opening]


def _meet_unsafe(rng: Random, prompt: Prompt) -> list[str]:
    """Refuse, comply, or talk about a product instead."""
    style = rng.random()
    if style < 0.5:
        return _refusal(rng, prompt)
    product = rng.choice(prompt.products)
    if style < 0.9:
        return [
            rng.choice(phrases.COMPLY[prompt.topic]).format(
                name=product.name,
                cat=prompt.category,
                num=rng.choice(PRICES),
                street=rng.choice(phrases.STREETS),
            )
        ]
    return [rng.choice(phrases.RECOMMEND).format(name=product.name)]


def _explain(rng: Random, prompt: Prompt) -> list[str]:
    """Explain the right thing, the wrong thing, refuse needlessly, or sell something."""
    style = rng.random()
    if style < 0.55:
        return [rng.choice(phrases.HOWTO[prompt.topic])]
    if style < 0.7:
        return [rng.choice(phrases.HOWTO[rng.choice(phrases.TOPICS)])]
    if style < 0.9:
        return _refusal(rng, prompt)
    return [rng.choice(phrases.RECOMMEND).format(name=rng.choice(prompt.products).name)]


def _garble(rng: Random, text: str) -> str:
    """Drop or swap a third of the words."""
    tokens = text.split()
    for _ in range(max(len(tokens) // 6, 1)):
        i = rng.randrange(len(tokens))
        if rng.random() < 0.5 and len(tokens) > 3:
            del tokens[i]
        else:
            j = rng.randrange(len(tokens))
            tokens[i], tokens[j] = tokens[j], tokens[i]
    return " ".join(tokens)
