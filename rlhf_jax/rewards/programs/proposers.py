"""Who writes reward programs: a seeded grammar, a language model at an address, a list.

propose = grammar_proposer(Grammar(variables, terms))
propose = chat_proposer(ChatModel(url, name, temperature=1.0), {"dist": "moves to the goal"})
"""

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from random import Random

from rlhf_jax.rewards.chat_judges import ChatModel, ask_chat
from rlhf_jax.rewards.programs.functions import FUNCTIONS
from rlhf_jax.rewards.programs.mutation import Grammar, mutated, random_program
from rlhf_jax.rewards.programs.search import Propose, ProposeContext, RankedRound, Traces
from rlhf_jax.rewards.programs.syntax import ProgramError, RewardProgram, parse_program
from rlhf_jax.rewards.verifiers import FENCE

CheckProgram = Callable[[RewardProgram], None]

RULES = """\
Write one Python function `reward` of these variables, which are numbers of a step:
{variables}
It may have assignments, + - * / **, comparisons, `a if condition else b` and {functions}. It has no
loop, no import and no other call. It returns the reward and a dict of its components:
    return total, {{"name": component}}
Answer with the function in one ```python block.
"""


def grammar_proposer(grammar: Grammar, *, use_worst: bool = True) -> Propose:
    """Random programs in the first round, then mutants of the best, away from the worst.

    Args:
      use_worst: whether the worst program is a negative example.
    """

    def propose(context: ProposeContext, number: int, rng: Random) -> list[RewardProgram]:
        if not context.history:
            return [random_program(grammar, rng) for _ in range(number)]
        last = context.history[-1]
        best = last.trials[last.best].program
        worst = last.trials[last.worst].program if use_worst else None
        return [mutated(best, grammar, rng, worst=worst) for _ in range(number)]

    return propose


def replay_proposer(
    batches: Sequence[Sequence[str]], variables: Collection[str], *, texts: Collection[str] = ()
) -> Propose:
    """Programs written before, a batch a round.

    Raises:
      ProgramError: a program is refused; ValueError: a batch has another size. From the proposer.
    """

    def propose(context: ProposeContext, number: int, rng: Random) -> list[RewardProgram]:
        batch = batches[len(context.history)]
        if len(batch) != number:
            raise ValueError(f"round {len(context.history)}: {len(batch)} programs, not {number}")
        return [parse_program(source, variables, texts=texts) for source in batch]

    return propose


def chat_proposer(
    model: ChatModel,
    variables: Mapping[str, str],
    *,
    texts: Collection[str] = (),
    check: CheckProgram | None = None,
    attempts: int = 3,
    refusals: Counter | None = None,
) -> Propose:
    """Programs of a language model, asked again until enough of them pass.

    The reply is never run: its last block with a `def` goes through `parse_program`.

    Args:
      model: with a temperature above 0, or all programs of a round are one.
      variables: name -> what it is, in words.
      check: a try of each program, see `check_program`; raises ProgramError.
      attempts: requests for each program at most.
      refusals: counts what was wrong, for a report: a comparison of proposers is fair only with it.
    Raises:
      ProgramError: too few programs passed; it has the last reason. ValueError: as `ask_chat`.
    """
    counts = Counter() if refusals is None else refusals

    def read(reply: str) -> RewardProgram:
        program = parse_program(program_text(reply), variables, texts=texts)
        if check is not None:
            check(program)
        return program

    def propose(context: ProposeContext, number: int, rng: Random) -> list[RewardProgram]:
        question = proposal_text(context, variables, texts=texts)
        found: list[RewardProgram] = []
        reason = "no reply"
        for _ in range(attempts):
            for reply in ask_chat(model, [question] * (number - len(found))):
                try:
                    found.append(read(reply or ""))
                except ProgramError as error:
                    reason = str(error)
                    counts[reason] += 1
            if len(found) == number:
                return found
        raise ProgramError(
            f"{model.model!r} wrote {len(found)} of {number} reward programs in {attempts} "
            f"attempts; the last was refused: {reason}"
        )

    return propose


def program_text(reply: str) -> str:
    """The last fenced block of a reply that has a `def`; the whole reply without any."""
    blocks = [block for block in FENCE.findall(reply) if "def " in block]
    return blocks[-1] if blocks else reply


def proposal_text(
    context: ProposeContext, variables: Mapping[str, str], *, texts: Collection[str] = ()
) -> str:
    """The question to a language model: task, rules, and what earlier rounds have shown."""
    named = "\n".join(f"  {name}: {what}" for name, what in variables.items())
    functions = ", ".join([*FUNCTIONS, *(f'{name}("text")' for name in texts)])
    parts = [
        f"A policy will be trained on a reward that you write. The task: {context.task}",
        RULES.format(variables=named, functions=functions),
    ]
    if context.history:
        last = context.history[-1]
        parts += [
            "People liked the policy of this reward best in the last round:",
            _example(last, last.best),
            "They liked the policy of this one least:",
            _example(last, last.worst),
        ]
    if changes := _changes(context.history):
        parts += ["What changed between the best rewards of earlier rounds:", changes]
    if context.history:
        parts.append(
            "Write a better one: keep what helps, change weights or terms, and leave out "
            "components that stay the same during training."
        )
    return "\n\n".join(parts)


def _example(ranked: RankedRound, place: int) -> str:
    """A program with what was seen of its components."""
    trial = ranked.trials[place]
    return f"```python\n{trial.program}\n```\n{trace_text(trial.traces)}".rstrip()


def trace_text(traces: Traces, *, points: int = 10) -> str:
    """A line for each component: up to `points` of its values, and their max, mean and min."""
    lines = []
    for name, values in traces.items():
        step = max(len(values) // points, 1)
        shown = ", ".join(f"{x:.3g}" for x in values[::step])
        mean = sum(values) / len(values)
        lines.append(
            f"{name} during training: [{shown}], max {max(values):.3g}, mean {mean:.3g}, "
            f"min {min(values):.3g}"
        )
    return "\n".join(lines)


def _changes(history: Sequence[RankedRound]) -> str:
    """Lines that differ between each best program and the one before."""
    best = [each.trials[each.best].program.source.splitlines() for each in history]
    found = []
    for before, after in pairwise(best):
        lines = list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]
        found += [line for line in lines if not line.startswith("@@")]
    return "\n".join(found)
