"""The language panel's world: brackets, each to be closed before the next one opens.

A slip leaves something open that no demonstration without slips shows how to close. The position
on the tightrope is the number of brackets that stand open; it is read from the text alone.
"""

import itertools
from collections.abc import Iterable

import numpy as np

OPENERS = ("(", "[")
CLOSER = {"(": ")", "[": "]"}
BRACKETS = (*OPENERS, *CLOSER.values())
DEEPEST = 8  # where the cost of a token is 1
PROMPT_PAIRS = 6
PROMPTS = len(OPENERS) ** PROMPT_PAIRS


def token_costs(brackets: Iterable[str]) -> list[float]:
    """Cost of each bracket: min(open - 1 + wrong, 8) / 8, where open >= 1 is the number that stand
    open after it, and wrong is 1 if it closes nothing, and then changes nothing."""
    stack, costs = [], []
    for bracket in brackets:
        wrong = not read_bracket(stack, bracket)
        costs.append(min(max(len(stack) - 1, 0) + wrong, DEEPEST) / DEEPEST)
    return costs


def read_bracket(stack: list[str], bracket: str) -> bool:
    """Opens or closes; False if it closes nothing."""
    if bracket in CLOSER:
        stack.append(bracket)
        return True
    if stack and CLOSER[stack[-1]] == bracket:
        stack.pop()
        return True
    return False


def text_costs(text: str, length: int) -> np.ndarray:
    """[length] costs of a text of as many brackets; brackets that are missing cost 1 each."""
    costs = token_costs(text.split()[:length])
    return np.array(costs + [1.0] * (length - len(costs)))


def expert_text(rng: np.random.Generator, length: int, slip: float) -> str:
    """What the expert writes: it closes the innermost bracket, else opens either.

    Args:
      slip: rate at which a bracket is replaced by any of the four; the expert goes on from there.
    """
    stack: list[str] = []
    written = []
    opened = rng.integers(len(OPENERS), size=length)
    slips, any_one = rng.random(length) < slip, rng.integers(len(BRACKETS), size=length)
    for i in range(length):
        meant = CLOSER[stack[-1]] if stack else OPENERS[opened[i]]
        bracket = BRACKETS[any_one[i]] if slips[i] else meant
        read_bracket(stack, bracket)
        written.append(bracket)
    return " ".join(written)


def expert_costs(rng: np.random.Generator, length: int, slip: float, count: int) -> np.ndarray:
    """[count] total costs of the expert under slips."""
    texts = (expert_text(rng, length, slip) for _ in range(count))
    return np.array([text_costs(text, length).sum() for text in texts])


def prompt_texts(seed: int) -> list[str]:
    """All beginnings of six brackets, each closed, in an order of the seed."""
    openers = list(itertools.product(OPENERS, repeat=PROMPT_PAIRS))
    order = np.random.default_rng(seed).permutation(PROMPTS)
    return [" ".join(f"{x} {CLOSER[x]}" for x in openers[i]) for i in order]
