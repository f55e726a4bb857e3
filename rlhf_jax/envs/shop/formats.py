"""Formats: how judges, users and tools write in the world, and how their texts are read back.

Verdicts of two answers in one context, with the axis that decides as a short reason, with a degree
of 1 to 3, or after work that rates both answers axis by axis; ratings of the six axes as numerals,
0 to 9 or tenths; directions, that is how much of each axis a user wants; corrections, which map a
prompt and an answer to a better answer; and calls of a tool that looks something up, with its
result. Each has a writer with the truth from `score`, and those that a model writes have a reader
that gives None for a text in no such form, so that a model's own verdicts, ratings and calls can be
used and their failures counted.
"""

from collections.abc import Mapping

from rlhf_jax.envs.shop.answers import (
    ideal_answer,
)
from rlhf_jax.envs.shop.catalogue import FEATURES, NAMES
from rlhf_jax.envs.shop.modes import sample_answer
from rlhf_jax.envs.shop.prompts import Prompt, make_prompt
from rlhf_jax.envs.shop.scorer import AXES, GOLD_WEIGHTS, score

PAIR = "{prompt} answer a : {a} answer b : {b} which answer is better ?"
RATE = "{prompt} {answer} rate the answer ."
CORRECT = "{prompt} {answer} a better answer :"
VERDICT = "the better answer is {side} , because it is more {axis} ."
DEGREE = "answer {side} is better by {num} ."
WORK = "{axis} {num} and {num} ."
DEGREES = (0.0, 0.1, 0.3)  # a gap of gold above these is of degree 1, 2, 3
CALLED = ("price", "stars", "stock", *FEATURES)
TENTHS = tuple(f"{n / 10:.1f}" for n in range(11))
TEMPLATES = (
    "answer a : answer b : which answer is better ?", "rate the answer .", "a better answer :",
    VERDICT, DEGREE, WORK, "a b equal", "both answers are equal .", *AXES, *TENTHS,
    " ".join(map(str, range(10))), "the user wants minus .", "call price stars stock {name} {a}",
    "result {num} yes no unknown nothing",
)  # fmt: skip


def pair_context(prompt: Prompt, a: str, b: str) -> str:
    """Prompt and two answers in one context, up to the verdict."""
    return PAIR.format(prompt=prompt.text, a=a, b=b)


def verdict_text(prompt: Prompt, a: str, b: str) -> str:
    """The verdict by gold. Its reason is the axis whose weighted log gap in the gold score is the
    largest in favour of the better answer; `both answers are equal .` if gold is equal."""
    first, second = score(prompt, a), score(prompt, b)
    if first.overall == second.overall:
        return "both answers are equal ."
    better, worse = (first, second) if first.overall > second.overall else (second, first)

    def gap(axis: str) -> float:
        high, low = (getattr(each, axis) + 1e-3 for each in (better, worse))
        return (high / low) ** GOLD_WEIGHTS[axis]

    return VERDICT.format(side="a" if better is first else "b", axis=max(AXES, key=gap))


def reasoned_verdict(prompt: Prompt, a: str, b: str) -> str:
    """The work of a judge, and its verdict: `helpful 9 and 4 . honest ... .`, both answers rated
    with digits on each axis, then `verdict_text`."""
    both = [score(prompt, text) for text in (a, b)]
    lines = [
        f"{axis} {' and '.join(str(round(9 * getattr(each, axis))) for each in both)} ."
        for axis in AXES
    ]
    return " ".join([*lines, verdict_text(prompt, a, b)])


def read_verdict(text: str) -> str | None:
    """`a`, `b` or `equal`: the last verdict of a text; None without any."""
    words = text.lower().split()
    for i in reversed(range(len(words))):
        if words[i : i + 4] == ["both", "answers", "are", "equal"]:
            return "equal"
        begun = words[i : i + 4] == ["the", "better", "answer", "is"]
        if begun and words[i + 4 : i + 5] in (["a"], ["b"]):
            return words[i + 4]
    return None


def degree_text(prompt: Prompt, a: str, b: str) -> str:
    """`answer a is better by 3 .`, the degree from the gap of gold (DEGREES), or that both are
    equal."""
    gap = score(prompt, a).overall - score(prompt, b).overall
    degree = sum(abs(gap) > bound for bound in DEGREES)
    if not degree:
        return "both answers are equal ."
    return DEGREE.format(side="a" if gap > 0 else "b", num=degree)


def read_degree(text: str) -> int | None:
    """-3 to 3, positive if answer a is better; None if the text is no `degree_text`."""
    if text.split() == ["both", "answers", "are", "equal", "."]:
        return 0
    signs = {"a": 1, "b": -1}
    degrees = {
        DEGREE.format(side=side, num=num): sign * num
        for side, sign in signs.items()
        for num in (1, 2, 3)
    }
    return degrees.get(" ".join(text.split()))


def ratings_text(values: Mapping[str, float], *, tenths: bool = False) -> str:
    """`helpful 3 honest 9 ... .`: each value in [0, 1] as a digit, round(9 v), or in tenths.

    Args:
      values: axis -> value, in the order in which they are written.
      tenths: write 0.0 to 1.0.
    Raises:
      ValueError: a value out of [0, 1].
    """
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"the rating of {name} must be in [0, 1], got {value}")
    written = {k: f"{v:.1f}" if tenths else str(round(9 * v)) for k, v in values.items()}
    return " ".join([*(f"{name} {value}" for name, value in written.items()), "."])


def read_ratings(text: str) -> dict[str, float] | None:
    """axis -> value in [0, 1] of a text by `ratings_text`, None if it has another form."""
    words = text.split()
    if len(words) % 2 == 0 or words[-1:] != ["."]:
        return None
    names, values = words[:-1:2], words[1:-1:2]
    digits = [str(n) for n in range(10)]
    if len(set(names)) < len(names) or not set(names) <= set(AXES) or not names:
        return None
    if set(values) <= set(digits):
        return {name: int(value) / 9 for name, value in zip(names, values, strict=True)}
    if set(values) <= set(TENTHS):
        return {name: float(value) for name, value in zip(names, values, strict=True)}
    return None


def answer_ratings(prompt: Prompt, answer: str, *, tenths: bool = False) -> str:
    """The true ratings of an answer on the six axes."""
    found = score(prompt, answer)
    return ratings_text({axis: getattr(found, axis) for axis in AXES}, tenths=tenths)


def direction_text(weights: Mapping[str, float]) -> str:
    """`the user wants helpful 0.8 concise minus 0.6 .`: a direction in tenths, to lead a prompt.

    Args:
      weights: axis -> weight in [-1, 1].
    Raises:
      ValueError: an unknown axis, or a weight out of range.
    """
    parts = []
    for axis, weight in weights.items():
        if axis not in AXES or not -1.0 <= weight <= 1.0:
            raise ValueError(f"want an axis of {AXES} with a weight in [-1, 1]: {axis}, {weight}")
        tenth = f"{abs(weight):.1f}"
        parts.append(
            f"{axis} minus {tenth}" if weight < 0 and tenth != "0.0" else f"{axis} {tenth}"
        )
    return " ".join(["the user wants", *parts, "."])


def rating_context(prompt: Prompt, answer: str) -> str:
    """Prompt and answer, up to the ratings."""
    return RATE.format(prompt=prompt.text, answer=answer)


def correction_context(prompt: Prompt, answer: str) -> str:
    """Prompt and answer, up to a better answer: the input of a model that rewrites."""
    return CORRECT.format(prompt=prompt.text, answer=answer)


def tool_call(attribute: str, name: str) -> str:
    """`call price juno .`"""
    return f"call {attribute} {name} ."


def read_tool_call(text: str) -> tuple[str, str] | None:
    """(attribute, name) of a text that is one call, else None."""
    words = text.split()
    fits = len(words) == 4 and words[0] == "call" and words[3] == "."
    return (words[1], words[2]) if fits and words[1] in CALLED and words[2] in NAMES else None


def tool_result(prompt: Prompt, attribute: str, name: str) -> str:
    """What the shop's tool answers: a number, yes, no or unknown as the assistant may know it;
    `result nothing .` for a product that is not listed or an attribute that there is not."""
    product = next((each for each in prompt.products if each.name == name), None)
    if product is None or attribute not in CALLED:
        return "result nothing ."
    if attribute in ("price", "stars"):
        return f"result {getattr(product, attribute)} ."
    shown = product.in_stock if attribute == "stock" else product.shown_value(attribute)
    return f"result {({True: 'yes', False: 'no', None: 'unknown'})[shown]} ."


def examples(seed: int, count: int) -> list[str]:
    """Texts of each format in turn, as a page prints them."""
    return [_example(seed, index) for index in range(count)]


def _example(seed: int, index: int) -> str:
    """One text; the format goes round."""
    prompt = make_prompt(seed, index)
    a, b = (sample_answer(seed, prompt, which) for which in (0, 1))
    pair = pair_context(prompt, a, b)
    texts = (
        f"{pair} {verdict_text(prompt, a, b)}",
        f"{pair} {reasoned_verdict(prompt, a, b)}",
        f"{pair} {degree_text(prompt, a, b)}",
        f"{rating_context(prompt, a)} {answer_ratings(prompt, a)}",
        f"{rating_context(prompt, a)} {answer_ratings(prompt, a, tenths=True)}",
        f"{correction_context(prompt, a)} {ideal_answer(prompt)}",
        f"{direction_text({'helpful': 0.8, 'concise': -0.6})} {prompt.text}",
    )
    if index % 8 < len(texts):
        return texts[index % 8]
    name = prompt.products[index % len(prompt.products)].name
    attribute = CALLED[index % 3]
    call, result = tool_call(attribute, name), tool_result(prompt, attribute, name)
    return f"{prompt.text} {call} {result}"
