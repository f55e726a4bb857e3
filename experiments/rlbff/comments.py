"""Free-text comments on answers of shop assistants, and the extractor that reads them.

Three annotators write about each answer. They see what the world knows of it, and are careless
about principles that the answer is not about.
"""

from random import Random

import numpy as np

from experiments.rlbff.config import ShopSizes
from rlhf_jax.data.principles import (
    NO,
    YES,
    ExtractPrinciples,
    FeedbackComment,
    phrase_extractor,
)

ANNOTATORS = 3
# Principles of the shop that the words of an answer decide: phrases of yes, then of no.
PHRASES = {
    "price": (
        ("it names the price", "the price is there"),
        ("it hides the price", "i miss what it costs"),
    ),
    "stars": (
        ("it tells the stars", "i see how many stars it got"),
        ("not a word on the stars", "no rating is shown"),
    ),
    "doubt": (
        ("it admits what nobody knows", "open about its doubts"),
        ("it sounds sure of everything", "never says that it might be wrong"),
    ),
    "offer": (
        ("it offers further help", "glad that i may ask again"),
        ("it leaves me alone after that", "nothing more on offer"),
    ),
    "polite": (
        ("a polite answer", "nice manners"),
        ("not one kind word", "where are its manners"),
    ),
    "short": (
        ("quick to read", "no word too many"),
        ("far too long", "it goes on and on"),
    ),
}
NAMES = tuple(PHRASES)
OPENINGS = ("well .", "i read it twice .", "hm .", "", "as a customer :")


def read_phrases() -> ExtractPrinciples:
    """The extractor that knows every phrase."""
    return phrase_extractor(
        {
            phrase: (name, verdict)
            for name, sides in PHRASES.items()
            for verdict, phrases in zip((YES, NO), sides, strict=True)
            for phrase in phrases
        }
    )


def faulty_extractor(seed: int, sizes: ShopSizes) -> ExtractPrinciples:
    """The same as a language model does it: some quotes lack a letter, some points are invented.

    An invented point has a phrase that the comment does not have.
    """
    exact, rng = read_phrases(), Random(f"extractor/{seed}")

    def extract(comments, /):
        replies = []
        for comment, points in zip(comments, exact(comments), strict=True):
            reply = [(*point[:2], _misquoted(point[2], rng, sizes)) for point in points or ()]
            if rng.random() < sizes.invented:
                reply.append(_invented(comment, rng))
            replies.append(reply)
        return replies

    return extract


def _misquoted(span: str, rng: Random, sizes: ShopSizes) -> str:
    place = rng.randrange(len(span))
    return span[:place] + span[place + 1 :] if rng.random() < sizes.misquoted else span


def _invented(comment: str, rng: Random) -> tuple[str, str, str]:
    while True:
        name, verdict = rng.choice(NAMES), rng.choice((YES, NO))
        phrase = rng.choice(PHRASES[name][verdict == NO])
        if phrase not in comment:
            return name, verdict, phrase


def write_comments(seed: int, labels: np.ndarray, sizes: ShopSizes) -> list[FeedbackComment]:
    """Comments of ANNOTATORS on each answer.

    Args:
      labels: [N, K] whether answer n follows principle k of NAMES.
    """
    found = []
    for answer, truth in enumerate(labels):
        rng = Random(f"comments/{seed}/{answer}")
        salient = set(rng.sample(range(len(NAMES)), sizes.salient))
        for annotator in range(ANNOTATORS):
            text = _comment(rng, truth, salient, sizes)
            found.append(FeedbackComment(answer, annotator, text))
    return found


def _comment(rng: Random, truth: np.ndarray, salient: set[int], sizes: ShopSizes) -> str:
    """An opening and a sentence for each principle that this annotator thinks of."""
    sentences = []
    for k, name in enumerate(NAMES):
        if rng.random() >= (sizes.notice if k in salient else sizes.remark):
            continue
        right = rng.random() < (sizes.careful if k in salient else sizes.careless)
        yes = bool(truth[k]) == right
        sentences.append(rng.choice(PHRASES[name][0 if yes else 1]))
    rng.shuffle(sentences)
    return " ".join([rng.choice(OPENINGS), *(f"{sentence} ." for sentence in sentences)])
