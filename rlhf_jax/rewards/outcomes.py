"""Judges in hindsight: what came of each answer is simulated first, and shown to the judge.

    compare = hindsight_pairs(chat_pairs(model), simulate)   # a `ComparePairs`, as the judge itself

A judge of answers alone rewards what sounds good. One that reads outcomes rewards what turned out
well, if the outcome depends on the true state and not on what the answer claims. The outcome is in
the judge's text only: the policy and a reward model never read it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from rlhf_jax.rewards.checked import judge_failure
from rlhf_jax.rewards.judges import ComparePairs


@runtime_checkable
class SimulateOutcomes(Protocol):
    """What came of N answers, as texts; None, NaN or nothing where it is not known."""

    def __call__(self, prompts: Sequence[Any], answers: Sequence[str], /) -> Sequence[Any]: ...


def with_outcome(answer: str, outcome: str) -> str:
    """The answer, and below it what came of it."""
    return f"{answer}\n\nOutcome: {outcome}"


def hindsight_pairs(
    compare: ComparePairs,
    simulate: SimulateOutcomes,
    *,
    show: Callable[[str, str], str] = with_outcome,
) -> ComparePairs:
    """The same judge after the outcomes of both answers; None where one of them is not known.

    The outcome of a prompt and an answer is simulated once in a call, for all its comparisons.

    Args:
      compare: a judge of two texts.
      simulate: a simulator, a tool or a language model that is told the true state.
      show: `(answer, outcome) -> text` for the judge.
    Raises:
      JudgeError: from the judge that is returned, if `simulate` raises (chained) or gives another
        number of outcomes than answers, or one that is neither a text nor None nor NaN; the message
        has the prompt.
    Reference: Liang et al. 2025, arXiv:2501.08617 (RLHS).
    """

    def judge(
        prompts: Sequence[Any], first: Sequence[str], second: Sequence[str], /
    ) -> list[float | None]:
        sides = [*zip(prompts, first, strict=True), *zip(prompts, second, strict=True)]
        places = {(repr(prompt), answer): n for n, (prompt, answer) in enumerate(sides)}
        asked = [sides[n] for n in places.values()]
        found = dict(zip(places, _outcomes(simulate, asked), strict=True))
        told = [found[repr(prompt), answer] for prompt, answer in sides]
        count = len(prompts)
        known = [n for n in range(count) if told[n] and told[n + count]]
        prefs: list[float | None] = [None] * count
        if known:
            shown = ([show(sides[n + k][1], told[n + k]) for n in known] for k in (0, count))
            verdicts = compare([prompts[n] for n in known], *shown)
            for n, pref in zip(known, verdicts, strict=True):
                prefs[n] = pref
        return prefs

    return judge


def _outcomes(simulate: SimulateOutcomes, asked: Sequence[tuple[Any, str]]) -> list[str]:
    """An outcome for each prompt and answer, "" where it is not known."""
    if not asked:
        return []
    prompts, answers = zip(*asked, strict=True)
    about = f"simulating the outcomes of {len(asked)} answers, the first to {prompts[0]!r:.60}"
    try:
        found = list(simulate(list(prompts), list(answers)))
        if len(found) != len(asked):
            raise ValueError(f"{len(found)} outcomes, expected {len(asked)}, one for each answer")
        return [_text(*each) for each in zip(prompts, found, strict=True)]
    except Exception as error:  # the user's own code, a tool or a service
        raise judge_failure(about, error) from error


def _text(prompt: Any, outcome: Any) -> str:
    """An outcome as text."""
    if outcome is None or (isinstance(outcome, float) and math.isnan(outcome)):
        return ""
    if not isinstance(outcome, str):
        raise ValueError(
            f"an outcome must be a text, or None if it is not known, got {outcome!r:.60} for an "
            f"answer to {prompt!r:.60}"
        )
    return outcome.strip()
