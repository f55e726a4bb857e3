"""Opinion summaries: some reviews of one product, and texts that sum them up, well or badly.

Each review praises or blames one to three aspects (price, look, size, service, ...). A summary says
of an aspect that most buyers like it, that most do not, or that they are divided. Seven features in
[0, 1] are computed from any text: coverage, faithfulness, balance, brevity, fluency, freshness and
naming. `summary` writes a text of a wanted quality, by defects of seven kinds, one for each
feature, so a reward model on the features, and the weights it should find, have a known truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np

from rlhf_jax.envs.shop.catalogue import CATEGORIES, DISTINCT_PROMPTS, NAMES

ASPECTS = ("price", "look", "size", "service", "colour", "sound", "weight", "package")
FEATURE_NAMES = (
    "coverage", "faithfulness", "balance", "brevity", "fluency", "freshness", "naming",
)  # fmt: skip
VIEWS = ("good", "bad", "mixed")
PRAISE = ("i like the {aspect} .", "the {aspect} is great .", "very good {aspect} .")
BLAME = ("i do not like the {aspect} .", "the {aspect} is poor .", "very bad {aspect} .")
STATED = {
    "good": ("most buyers like the {aspect} .", "the {aspect} is praised .",
             "buyers find the {aspect} good ."),
    "bad": ("most buyers dislike the {aspect} .", "the {aspect} is blamed .",
            "buyers find the {aspect} bad ."),
    "mixed": ("buyers are divided about the {aspect} .", "some like the {aspect} , some do not ."),
}  # fmt: skip
OPENINGS = ("this is what buyers say about {name} .", "{name} in short :")
PADDING = (
    "there is a lot to say here .",
    "reviews are read by many people .",
    "every buyer is different and wants something else .",
)
TEMPLATES = (
    *PRAISE, *BLAME, *(form for forms in STATED.values() for form in forms), *OPENINGS, *PADDING,
    *ASPECTS, "reviews of the {cat} {name} : review : summary :",
)  # fmt: skip
_MAX_WORDS = 45  # of a summary without loss of brevity
_FORMED = frozenset(
    form.format(aspect=aspect) for forms in STATED.values() for form in forms for aspect in ASPECTS
)
_READ = {  # in any order of the words
    tuple(sorted(form.format(aspect=aspect).split())): (aspect, view)
    for view, forms in STATED.items()
    for form in forms
    for aspect in ASPECTS
}
_KNOWN = frozenset((*PADDING, *(form.format(name=name) for form in OPENINGS for name in NAMES)))


@dataclass(frozen=True)
class ReviewTask:
    """Reviews to sum up.

    text: the reviews, up to `summary :`. name, category: the product. opinions: for each review
    its (aspect, whether it is praised). views: aspect -> one of VIEWS, in the order of the reviews.
    """

    text: str
    name: str
    category: str
    opinions: tuple[tuple[tuple[str, bool], ...], ...]
    views: tuple[tuple[str, str], ...]


class _Defects(NamedTuple):
    """Whether a summary lacks each quality, in the order of FEATURE_NAMES."""

    coverage: bool
    faithfulness: bool
    balance: bool
    brevity: bool
    fluency: bool
    freshness: bool
    naming: bool


def review_task(seed: int, index: int) -> ReviewTask:
    """The reviews with this index, a function of (seed, index) only.

    Four to six reviews with opinions on four or five aspects, at least one of them good and one
    bad on the whole.

    Raises:
      ValueError: index out of range.
    """
    if not 0 <= index < DISTINCT_PROMPTS:
        raise ValueError(f"review index {index} is out of range; use 0 <= i < {DISTINCT_PROMPTS}")
    rng = Random(f"review/{seed}/{index}")
    name, category = rng.choice(NAMES), rng.choice(tuple(CATEGORIES))
    aspects = rng.sample(ASPECTS, rng.choice((4, 5)))
    views = {}
    while not {"good", "bad"} <= set(views.values()):
        leaning = {aspect: rng.choice((0.1, 0.5, 0.9)) for aspect in aspects}
        reviews = []
        for _ in range(rng.randrange(4, 7)):
            chosen = rng.sample(aspects, rng.randrange(1, 4))
            reviews.append(tuple((aspect, rng.random() < leaning[aspect]) for aspect in chosen))
        views = _majority(reviews)
    lines = []
    for review in reviews:
        forms = [(rng.choice(PRAISE if liked else BLAME), aspect) for aspect, liked in review]
        lines += ["review :", *(form.format(aspect=aspect) for form, aspect in forms)]
    text = " ".join([f"reviews of the {category} {name} :", *lines, "summary :"])
    return ReviewTask(text, name, category, tuple(reviews), tuple(views.items()))


def summary(seed: int, task: ReviewTask, index: int, quality: float | Sequence[float] = 1.0) -> str:
    """A summary of the reviews; a function of its arguments only.

    Args:
      seed, index: of the text.
      task: the reviews.
      quality: in [0, 1]; for each feature, the probability that the text has no defect in it. One
        number for all, or seven in the order of FEATURE_NAMES.
    Raises:
      ValueError: another number of qualities, or one out of range.
    """
    wanted = np.broadcast_to(np.asarray(quality, np.float64), (len(FEATURE_NAMES),))
    if not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError(f"quality must be in [0, 1], got {quality}")
    rng = Random(f"summary/{seed}/{index}/{wanted.tolist()}/{task.text}")
    lacks = _Defects(*(rng.random() >= each for each in wanted))
    views = dict(rng.sample(task.views, len(task.views)))
    if lacks.balance:  # one side only
        side = rng.choice(("good", "bad"))
        views = {aspect: view for aspect, view in views.items() if view == side}
    if lacks.coverage and len(views) > 1:
        views = dict(rng.sample(tuple(views.items()), (len(views) + 1) // 2))
    lines = list(views.items())
    if lacks.faithfulness:  # one wrong view and one aspect that nobody mentioned
        aspect, view = lines.pop()
        lines.append((aspect, rng.choice([each for each in VIEWS if each != view])))
        others = [each for each in ASPECTS if each not in dict(task.views)]
        lines.append((rng.choice(others), rng.choice(VIEWS)))
    sentences = [rng.choice(STATED[view]).format(aspect=aspect) for aspect, view in lines]
    if lacks.freshness:
        sentences += rng.choices(sentences, k=2)
    if not lacks.naming:
        sentences.insert(0, rng.choice(OPENINGS).format(name=task.name))
    if lacks.brevity:
        while sum(len(sentence.split()) for sentence in sentences) < _MAX_WORDS + 10:
            sentences.insert(rng.randrange(1, len(sentences) + 1), rng.choice(PADDING))
    if lacks.fluency:
        broken = rng.sample(range(len(sentences)), (len(sentences) + 2) // 3)
        sentences = [_break(rng, s) if i in broken else s for i, s in enumerate(sentences)]
    return " ".join(sentences)


def summary_features(task: ReviewTask, text: str) -> np.ndarray:
    """The seven features of any text as a summary.

    coverage: share of the reviewed aspects that have a statement. faithfulness: share of the
    statements with the view of most reviews (0 without statements). balance: 1 - |share of good
    among the good and bad statements - the same share in the reviews|, 0 without any. brevity: 1 up
    to 45 words, 0 from 90. fluency: share of sentences in one of the forms, word
    for word; a statement with words in another order is read all the same. freshness: 1 - 2 *
    share of statements that repeat an aspect, at least 0. naming: 1 if the product is named and no
    other one.

    Returns:
      [7] float32 in the order of FEATURE_NAMES.
    """
    sentences = _split(text)
    bags = [tuple(sorted(sentence.split())) for sentence in sentences]
    said = [_READ[bag] for bag in bags if bag in _READ]
    views = dict(task.views)
    formed = sum(sentence in _FORMED or sentence in _KNOWN for sentence in sentences)
    repeats = len(said) - len({aspect for aspect, _ in said})
    share, truth = _good_share([view for _, view in said]), _good_share(list(views.values()))
    words = text.split()
    values = (
        len({aspect for aspect, _ in said} & views.keys()) / len(views),
        sum(views.get(aspect) == view for aspect, view in said) / max(len(said), 1),
        0.0 if share is None or truth is None else 1.0 - abs(share - truth),
        min(1.0, max(0.0, 2.0 - len(words) / _MAX_WORDS)) if words else 0.0,
        formed / max(len(sentences), 1),
        max(0.0, 1.0 - 2.0 * repeats / max(len(said), 1)) if said else 0.0,
        float({word for word in words if word in NAMES} == {task.name}),
    )
    return np.array(values, np.float32)


def examples(seed: int, count: int) -> list[str]:
    """Reviews with a summary and its features, as a page prints them."""
    found = []
    for index in range(count):
        task = review_task(seed, index)
        text = summary(seed, task, index, (1.0, 0.7, 0.4)[index % 3])
        marks = zip(FEATURE_NAMES, summary_features(task, text), strict=True)
        found.append(f"{task.text} {text}\n  " + ", ".join(f"{k} {v:.2f}" for k, v in marks))
    return found


def _majority(reviews: list[tuple[tuple[str, bool], ...]]) -> dict[str, str]:
    """aspect -> `good`, `bad`, or `mixed` in a tie."""
    votes: dict[str, int] = {}
    for review in reviews:
        for aspect, liked in review:
            votes[aspect] = votes.get(aspect, 0) + (1 if liked else -1)
    return {a: "good" if n > 0 else "bad" if n < 0 else "mixed" for a, n in votes.items()}


def _good_share(views: list[str]) -> float | None:
    """Share of good among good and bad; None without any."""
    good, bad = views.count("good"), views.count("bad")
    return good / (good + bad) if good + bad else None


def _split(text: str) -> list[str]:
    """The sentences with their end marks, `.` or `:`."""
    sentences, first = [], 0
    words = text.split()
    for i, word in enumerate(words):
        if word in (".", ":") or i == len(words) - 1:
            sentences.append(" ".join(words[first : i + 1]))
            first = i + 1
    return sentences


def _break(rng: Random, sentence: str) -> str:
    """Two neighbouring words of a sentence swapped; the end mark stays."""
    *words, mark = sentence.split()
    i = rng.randrange(len(words) - 1)
    words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join([*words, mark])
