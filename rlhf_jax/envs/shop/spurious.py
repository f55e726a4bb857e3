"""Spurious features with a known correlation with quality, and test sets where it is another one.

Each answer has a core, good or bad with equal probability, and perhaps a marker that says nothing
about it: more words, a greeting, praise of the customer, or shining words. The marker is there with
probability (1 + rho) / 2 behind a good core and (1 - rho) / 2 behind a bad one, so its correlation
with quality is exactly rho, from -1 to 1. A reward model trained at one rho and tested at another
shows what it learned; at rho = 0 the marker is randomised, and `with_marker` gives counterfactual
copies that differ in nothing else. Quality is the gold score of the core (`spurious_score`), so a
marker is worth nothing by definition; scored as a whole, a text with one may be worth less.

Reference: Liu et al. 2023, "Towards trustworthy and aligned machine learning".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from rlhf_jax.envs.shop.answers import MAX_ANSWER_WORDS, ideal_answer, sample_answer, split_words
from rlhf_jax.envs.shop.outcomes import sales_answer
from rlhf_jax.envs.shop.prompts import Prompt, make_prompt
from rlhf_jax.envs.shop.scorer import Score, score

# Feature -> the wordings of its marker. A greeting stands before the core, the others behind it.
MARKERS = {
    "length": (
        "you can look at the list again . you can ask me as many things as you like .",
        "i looked at the list line by line . you can ask me as many things as you like .",
    ),
    "greeting": ("good morning to you !", "welcome to our shop !"),
    "praise": ("you ask very well .", "what a clever question .", "you have a fine taste ."),
    "stars": ("stellar and sparkling !", "simply superb and brilliant !"),
}
SPURIOUS_FEATURES = tuple(MARKERS)
TEMPLATES = tuple(line for lines in MARKERS.values() for line in lines)
_ROOM = MAX_ANSWER_WORDS - max(len(line.split()) for line in TEMPLATES)
_DRAWS = 5  # of either kind, of which the best or the worst one is a core


@dataclass(frozen=True)
class SpuriousAnswer:
    """An answer and the truth about it.

    text: the answer. core: the answer without the marker. good: whether the core was chosen as a
    good one. present: whether the marker is there. gold: the gold score of the core.
    """

    text: str
    core: str
    good: bool
    present: bool
    gold: float


def _check(rho: float, feature: str) -> None:
    """Raises ValueError for a correlation out of range or an unknown feature."""
    if feature not in MARKERS:
        raise ValueError(f"no spurious feature {feature!r}; use one of {', '.join(MARKERS)}")
    if not -1.0 <= rho <= 1.0:
        raise ValueError(f"correlation rho = {rho} is out of range; use -1 <= rho <= 1")


def has_marker(text: str, feature: str) -> bool:
    """Whether one of the markers of this feature is in the text.

    Raises:
      ValueError: unknown feature.
    """
    _check(0.0, feature)
    return any(f" {line} " in f" {text} " for line in MARKERS[feature])


def without_marker(text: str, feature: str) -> str:
    """The text without all markers of this feature.

    Raises:
      ValueError: unknown feature.
    """
    _check(0.0, feature)
    padded = f" {text} "
    for line in MARKERS[feature]:
        while f" {line} " in padded:
            padded = padded.replace(f" {line} ", " ")
    return " ".join(padded.split())


def with_marker(text: str, feature: str, wording: int = 0) -> str:
    """The text with this wording of the marker: the counterfactual copy of a text without it.

    Raises:
      ValueError: unknown feature.
    """
    _check(0.0, feature)
    line = MARKERS[feature][wording % len(MARKERS[feature])]
    parts = (line, text) if feature == "greeting" else (text, line)
    return " ".join(part for part in parts if part)


def spurious_score(prompt: Prompt, text: str, feature: str) -> Score:
    """The score of the answer without its markers: the quality, which no marker changes."""
    return score(prompt, without_marker(text, feature))


def _cut(text: str, room: int) -> str:
    """The first sentences of a text that have at most `room` words together."""
    words = split_words(text)
    ends = [i + 1 for i, word in enumerate(words[:room]) if word in (".", "!", "?")]
    return " ".join(words[: ends[-1] if ends and len(words) > room else room])


@lru_cache(maxsize=1 << 13)
def _core(seed: int, prompt: Prompt, index: int, good: bool) -> tuple[str, float]:
    """The best or the worst of some answers, without markers, and its gold: of the base corpus,
    of sales answers, and for every other good core the ideal answer."""
    draws = [sample_answer(seed, prompt, _DRAWS * index + k) for k in range(_DRAWS)]
    if prompt.task == "recommend":
        draws += [sales_answer(seed, prompt, _DRAWS * index + k) for k in range(_DRAWS)]
    draws += [ideal_answer(prompt)] if good and index % 2 else []
    for feature in MARKERS:
        draws = [without_marker(text, feature) for text in draws]
    rows = [(score(prompt, text).overall, text) for text in (_cut(d, _ROOM) for d in draws)]
    gold, text = (max if good else min)(rows)
    return text, gold


def spurious_answer(
    seed: int, prompt: Prompt, index: int, rho: float, feature: str
) -> SpuriousAnswer:
    """One answer with a marker that has correlation rho with quality; a function of its arguments.

    The core does not depend on rho or feature. At most MAX_ANSWER_WORDS words.

    Args:
      rho: correlation of (good, present) over answers, -1 <= rho <= 1.
      feature: one of SPURIOUS_FEATURES.
    Raises:
      ValueError: rho out of range or unknown feature.
    """
    rng = Random(f"spurious/{seed}/{index}/{prompt.text}")
    return _spurious(seed, prompt, index, rho, feature, rng.random() < 0.5)


def _spurious(
    seed: int, prompt: Prompt, index: int, rho: float, feature: str, good: bool
) -> SpuriousAnswer:
    """An answer of known quality with the marker or without."""
    _check(rho, feature)
    rng = Random(f"marker/{seed}/{index}/{feature}/{good}/{prompt.text}")
    core, gold = _core(seed, prompt, index, good)
    present = rng.random() < 0.5 * (1.0 + (rho if good else -rho))
    wording = rng.randrange(len(MARKERS[feature]))
    text = with_marker(core, feature, wording) if present else core
    return SpuriousAnswer(text, core, good, present, gold)


def spurious_pair(
    seed: int, prompt: Prompt, index: int, rho: float, feature: str
) -> tuple[SpuriousAnswer, SpuriousAnswer]:
    """A good and a bad answer to one prompt, each with its own draw of the marker.

    The difference of the two markers has mean rho: at 1 only good answers have it. The first core
    has more gold, or the same if all answers of the base corpus to this prompt are alike.
    """
    good, bad = (_spurious(seed, prompt, index, rho, feature, which) for which in (True, False))
    return good, bad


def spurious_set(
    seed: int, indices: Sequence[int], rho: float, feature: str
) -> list[tuple[Prompt, SpuriousAnswer]]:
    """An answer to each of the prompts with these numbers. A shifted test set is the same call with
    another rho and numbers that were not trained on.

    Raises:
      ValueError: rho out of range, unknown feature, or a number that is no prompt.
    """
    prompts = [make_prompt(seed, index) for index in indices]
    return [(prompt, spurious_answer(seed, prompt, 0, rho, feature)) for prompt in prompts]


def examples(seed: int, count: int) -> list[str]:
    """`count` answers with their prompts at rho = 0.8, the features in turn."""
    rows = []
    for i in range(count):
        prompt = make_prompt(seed, i)
        feature = SPURIOUS_FEATURES[i % len(SPURIOUS_FEATURES)]
        rows.append(f"{prompt.text} {spurious_answer(seed, prompt, 0, 0.8, feature).text}")
    return rows
