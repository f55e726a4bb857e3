"""Reward programs found by comparisons of what their policies do: propose, train, rank, again.

    found = search_programs(propose, train, beats, task=task, number=6, rounds=5, rng=Random(0))
    found.incumbent.program, found.queries            # 49 comparisons

The loop sees no score: `train` gives what is shown of a policy, and `beats` says which of two shown
things is better, a rule or a person. A person who ranks a batch at once: `best_and_worst` is then
replaced by `recipes.ranked_programs`, and the next `RankedRound` is made of it.

Reference: ICPL, arXiv:2410.17233 (2024); the loop as read in summaries of it, with Eureka's traces.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple, Protocol, runtime_checkable

from rlhf_jax.checks import check_range
from rlhf_jax.rewards.programs.syntax import RewardProgram

Traces = Mapping[str, Sequence[float | int]]  # of a component, its values during training


class Trial(NamedTuple):
    """A program, what is shown of its policy, and the values of its components in training."""

    program: RewardProgram
    shown: Any
    traces: Traces


class RankedRound(NamedTuple):
    """trials: [K]. best, worst: their places. queries: comparisons, with that of the incumbent."""

    trials: tuple[Trial, ...]
    best: int
    worst: int
    queries: int


class ProposeContext(NamedTuple):
    """All that a proposer knows: no score is in it.

    task: what is wanted, in words. history: earlier rounds, the last of which has the examples.
    """

    task: str
    history: tuple[RankedRound, ...]


@runtime_checkable
class Propose(Protocol):
    """Programs for the next round."""

    def __call__(
        self, context: ProposeContext, number: int, rng: Random
    ) -> Sequence[RewardProgram]:
        """`number` programs that passed `parse_program`."""
        ...


class ProgramSearch(NamedTuple):
    """incumbents: the best trial after each round. rounds: all of them."""

    incumbents: tuple[Trial, ...]
    rounds: tuple[RankedRound, ...]

    @property
    def incumbent(self) -> Trial:
        """The program to use."""
        return self.incumbents[-1]

    @property
    def queries(self) -> int:
        """Comparisons of the whole search."""
        return sum(each.queries for each in self.rounds)


Beats = Callable[[Any, Any], bool]  # whether what is shown first is better than the second


def search_programs(
    propose: Propose,
    train: Callable[[Sequence[RewardProgram]], Sequence[Trial]],
    beats: Beats,
    *,
    task: str,
    number: int,
    rounds: int,
    rng: Random,
) -> ProgramSearch:
    """Rounds of `number` programs; the incumbent is replaced by a best one that beats it.

    Args:
      train: programs to trials, one policy each from the same start.
      task: in words, for proposers that read.
      rng: of the proposer.
    """
    check_range("[2, inf)", number=number)
    check_range("[1, inf)", rounds=rounds)
    done: list[RankedRound] = []
    incumbents: list[Trial] = []
    for _ in range(rounds):
        programs = propose(ProposeContext(task, tuple(done)), number, rng)
        trials = tuple(train(programs))
        if len(trials) != number:
            raise ValueError(f"{number} programs were asked for, {len(trials)} were trained")
        best, worst, queries = best_and_worst([trial.shown for trial in trials], beats)
        winner = trials[best]
        if incumbents:
            queries += 1
            winner = winner if beats(winner.shown, incumbents[-1].shown) else incumbents[-1]
        done.append(RankedRound(trials, best, worst, queries))
        incumbents.append(winner)
    return ProgramSearch(tuple(incumbents), tuple(done))


def best_and_worst(shown: Sequence[Any], beats: Beats) -> tuple[int, int, int]:
    """(place of the best, place of the worst, comparisons): K - 1 and K - 2.

    Of equal ones the first is best, and the last of the others worst.
    """
    best = 0
    for place in range(1, len(shown)):
        best = place if beats(shown[place], shown[best]) else best
    others = [place for place in range(len(shown)) if place != best]
    worst = others[0]
    for place in others[1:]:
        worst = worst if beats(shown[place], shown[worst]) else place
    return best, worst, 2 * len(shown) - 3


def query_count(rounds: int, number: int) -> int:
    """Q = N (2 K - 3) + N - 1 comparisons of N rounds of K programs; 49 for 5 rounds of 6."""
    return rounds * (2 * number - 3) + rounds - 1
