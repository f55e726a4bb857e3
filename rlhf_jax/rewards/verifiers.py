r"""Verifiers: exact answer, regular expression, unit tests; `mathematics` has one more.

Each is a `TextReward`: 1.0 for right, 0.0 for wrong.

>>> exact = exact_reward()
>>> exact(["6 x 7?"] * 3, ["#### 42", r"so \boxed{42.0}", "41, or so"], answer=["42"] * 3)
[1.0, 1.0, 0.0]
"""

import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from os import cpu_count
from typing import Any

from rlhf_jax.rewards.checked import need_package
from rlhf_jax.rewards.sandbox import Limits, check_sandbox, run_tests
from rlhf_jax.types import TextReward

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:/\d+)?")
FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
BOXED = "\\boxed{"


def exact_reward(column: str = "answer") -> TextReward:
    """Whether the answer's result is the reference, see `exact_match`."""

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        pairs = zip(answers, columns[column], strict=True)
        return [float(exact_match(answer, str(reference))) for answer, reference in pairs]

    return score


def regex_reward(pattern: str, *, seconds: float = 1.0) -> TextReward:
    """Whether the pattern is found in the answer; anchor it with ^ and $ for the whole answer.

    Needs the package `regex` (extra `verify`), for its time limit.

    Args:
      pattern: in the syntax of `re`. `.` does not match a line break; `(?s)` lets it.
      seconds: limit for each answer; an answer that takes longer counts as wrong.
    Raises:
      ValueError: the pattern is not valid.
    """
    need_package("regex", extra="verify")
    import regex

    try:
        known = regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"regular expression {pattern!r}: {error}") from error

    def found(answer: str) -> float:
        try:
            return float(known.search(answer, timeout=seconds) is not None)
        except TimeoutError:
            return 0.0

    return lambda prompts, answers, **columns: [found(answer) for answer in answers]


def code_reward(column: str = "tests", limits: Limits | None = None) -> TextReward:
    """Whether the answer's code passes all its tests, in a sandbox: see `sandbox.run_tests`.

    The code is the last ```python block of the answer, or all of it. As many answers as there are
    cores are tested at a time.

    Raises:
      SandboxError: no sandbox can be made here; now, before there is any answer to run.
    """
    check_sandbox()
    limits = limits or Limits()

    def one(pair: tuple[str, Any]) -> float:
        verdict = run_tests(extract_code(pair[0]), pair[1], limits)
        return float(verdict.passed == verdict.total)

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        with ThreadPoolExecutor(cpu_count()) as pool:
            return list(pool.map(one, zip(answers, columns[column], strict=True)))

    return score


def exact_match(answer: str, reference: str) -> bool:
    r"""Whether the results of two texts are equal, as numbers or else as normalised texts.

    The result is what `extract_result` finds, or the whole text; against a number it is the last
    number of the answer. Numbers are equal by value ("1,000" and "1000.0", "1/2" and ".5"; $ and %
    do not count). Texts are compared without case, repeated white space, a full stop at the end,
    and differences of Unicode's compatible forms (NFKC).
    """
    wanted = normalised(extract_result(reference) or reference)
    given = extract_result(answer)
    number = exact_number(wanted)
    if number is None:
        return normalised(answer if given is None else given) == wanted
    numbers = NUMBER.findall(normalised(answer if given is None else given))
    return bool(numbers) and exact_number(numbers[-1]) == number


def extract_result(text: str) -> str | None:
    r"""What is in the last \boxed{...}, else the rest of the line after the last ####, else None.

    >>> extract_result(r"\boxed{\frac{1}{2}}, not \boxed{3"), extract_result("2+2 #### 4")
    ('\\frac{1}{2}', '4')
    """
    start = text.rfind(BOXED)
    while start >= 0:
        depth, place = 1, start + len(BOXED)
        for end in range(place, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[place:end].strip()
        start = text.rfind(BOXED, 0, start)
    _, marker, after = text.rpartition("####")
    return (after.strip().splitlines() or [""])[0] if marker else None


def extract_code(answer: str) -> str:
    """The last block fenced by ```python or ```; without one, the whole answer."""
    blocks = FENCE.findall(answer)
    return blocks[-1] if blocks else answer


def normalised(text: str) -> str:
    """A text without the differences that `exact_match` leaves out."""
    text = unicodedata.normalize("NFKC", text).replace("\N{MINUS SIGN}", "-").casefold()
    return " ".join(re.sub(r"\\?[$%]", "", text).split()).removesuffix(".").rstrip()


def exact_number(text: str) -> Fraction | None:
    """The value of a decimal number or a fraction; None of anything else."""
    try:
        return Fraction(text.replace(",", "")) if NUMBER.fullmatch(text) else None
    except (ZeroDivisionError, ValueError):  # more digits than Python reads
        return None
