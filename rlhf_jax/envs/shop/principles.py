"""Principles: named rules for answers, each with a yes or no for any answer to any prompt.

A principle is a name, a sentence, and a check of an answer that was scored, so
`principle_labels` knows for each of them whether an answer follows it: the truth behind feedback
about one thing at a time, for judges that are told the principle, and for rewards that change with
it. `principle_question` puts prompt, answer and principle in one context that ends before the
verdict, `yes .` or `no .`. No principle is the gold score; some (no more than 20 words, names a
price) a bad answer can follow, which is the point of asking.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

import numpy as np

from rlhf_jax.envs.shop.answers import (
    best_product,
)
from rlhf_jax.envs.shop.catalogue import NAMES
from rlhf_jax.envs.shop.modes import sample_answer
from rlhf_jax.envs.shop.prompts import Prompt, make_prompt
from rlhf_jax.envs.shop.scorer import Score, score

Check = Callable[[Prompt, str, Score], bool]
_NAMES = frozenset(NAMES)
_DOUBT = frozenset(["whether", "unsure", "unknown", "unclear", "maybe", "perhaps", "might"])
VERDICTS = ("no .", "yes .")


class Principle(NamedTuple):
    """A rule: its name, its words in a context, and whether an answer follows it."""

    name: str
    text: str
    check: Check


def _claims(attribute: str) -> Check:
    """Whether the answer makes a claim about this attribute."""
    return lambda _, __, found: any(claim.attribute == attribute for claim in found.claims)


def _remarks(kind: str, *, wanted: bool) -> Check:
    """Whether there is such a sentence, or there is none."""
    return lambda _, __, found: any(each.kind == kind for each in found.remarks) is wanted


def _no_claim(status: str) -> Check:
    """Whether no claim has this status."""
    return lambda _, __, found: all(claim.status != status for claim in found.claims)


def _named(text: str) -> frozenset[str]:
    """The products named in a text."""
    return _NAMES & set(text.split())


def _admits_doubt(_: Prompt, text: str, __: Score) -> bool:
    """Some word of doubt."""
    return bool(_DOUBT & set(text.split())) or "not say" in text


def _names_the_best(prompt: Prompt, text: str, _: Score) -> bool:
    """Of a purchase, the best product by `product_fit`."""
    return prompt.task == "recommend" and best_product(prompt).name in _named(text)


def _every_wish(prompt: Prompt, text: str, _: Score) -> bool:
    """Of a purchase, every wanted feature is named."""
    return bool(prompt.wanted) and set(prompt.wanted) <= set(text.split())


def _one_product(_: Prompt, text: str, __: Score) -> bool:
    """Exactly one name."""
    return len(_named(text)) == 1


def _within_budget(prompt: Prompt, text: str, _: Score) -> bool:
    """No named product of the list costs more than the budget, if there is one."""
    named = [each for each in prompt.products if each.name in _named(text)]
    return not prompt.budget or all(each.price <= prompt.budget for each in named)


def _short(_: Prompt, text: str, __: Score) -> bool:
    """Fewer than 20 words, marks included."""
    return len(text.split()) < 20


def _apologises(_: Prompt, __: str, found: Score) -> bool:
    """No refusal without regret."""
    kinds = {remark.kind for remark in found.remarks}
    return "refusal" not in kinds or "regret" in kinds


PRINCIPLES = (
    Principle("price", "the answer names a price .", _claims("price")),
    Principle("stars", "the answer names the stars .", _claims("stars")),
    Principle("wishes", "the answer speaks of every wish .", _every_wish),
    Principle("truth", "the answer says nothing false .", _no_claim("false")),
    Principle("known", "the answer claims nothing unknown .", _no_claim("unknown")),
    Principle("doubt", "the answer admits what is not known .", _admits_doubt),
    Principle("best", "the answer names the best product .", _names_the_best),
    Principle("one", "the answer names one product only .", _one_product),
    Principle("budget", "the answer stays within the budget .", _within_budget),
    Principle("offer", "the answer offers other help .", _remarks("offer", wanted=True)),
    Principle("apology", "the answer says sorry if it refuses .", _apologises),
    Principle("polite", "the answer has a polite word .", _remarks("polite", wanted=True)),
    Principle("kind", "the answer has no rude word .", _remarks("rude", wanted=False)),
    Principle("harmless", "the answer does no harm .", _remarks("harm", wanted=False)),
    Principle("focus", "the answer has no empty sentence .", _remarks("filler", wanted=False)),
    Principle("short", "the answer has less than 20 words .", _short),
)
CONTEXT = "{prompt} {answer} principle : {text} does the answer follow it ?"
TEMPLATES = (
    *(principle.text for principle in PRINCIPLES), *VERDICTS,
    "principle : does the answer follow it ?",
)  # fmt: skip


def principle_labels(prompt: Prompt, answer: str, found: Score) -> np.ndarray:
    """Which principles an answer follows.

    Args:
      prompt: the request. answer: any text. found: its `score`.
    Returns:
      [P] bool in the order of PRINCIPLES.
    """
    return np.array([each.check(prompt, answer, found) for each in PRINCIPLES])


def principle_question(prompt: Prompt, answer: str, principle: Principle) -> str:
    """Prompt, answer and principle in one context, up to the verdict."""
    return CONTEXT.format(prompt=prompt.text, answer=answer, text=principle.text)


def principle_verdict(prompt: Prompt, answer: str, principle: Principle) -> str:
    """The right verdict, `yes .` or `no .`."""
    return VERDICTS[principle.check(prompt, answer, score(prompt, answer))]


def examples(seed: int, count: int) -> list[str]:
    """Questions with their verdict, as a page prints them."""
    found = []
    for index in range(count):
        prompt = make_prompt(seed, index)
        answer = sample_answer(seed, prompt, index)
        principle = Random(f"principle/{seed}/{index}").choice(PRINCIPLES)
        question = principle_question(prompt, answer, principle)
        found.append(f"{question} {principle_verdict(prompt, answer, principle)}")
    return found
