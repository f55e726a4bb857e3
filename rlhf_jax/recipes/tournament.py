"""Policies against each other on held-out prompts: win rates and exploitability.

found = tournament(lab, task, judge, {"sft": sft, "nash": nash}, indices, key, samples=4)
found.wins.mean(0)                       # [M, M], row beats column
summarise(found.games["nash"])["gap"]    # [mean, low, high], exact.answer_games
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from rlhf_jax.exact.answer_games import AnswerGames, solve_answer_games
from rlhf_jax.recipes.lab import CHUNK, LanguageLab, make_prompts
from rlhf_jax.recipes.rows import in_chunks
from rlhf_jax.recipes.task import Task, check_single_turn
from rlhf_jax.rewards import judge_matrix
from rlhf_jax.types import Judge, Params


class Tournament(NamedTuple):
    """M policies on N prompts.

    names: M. wins: [N, M, M] win rate of the row's policy over the column's, 1/2 against itself.
    games: name -> the policy in the game of each prompt, with all answers of all policies as pool.
    """

    names: tuple[str, ...]
    wins: np.ndarray
    games: Mapping[str, AnswerGames]


def tournament(
    lab: LanguageLab,
    task: Task,
    judge: Judge,
    policies: Mapping[str, Params],
    indices: np.ndarray,
    key: jax.Array,
    *,
    samples: int,
    chunk: int | None = None,
) -> Tournament:
    """Draws answers of every policy and has all of a prompt judged against each other.

    Policy number i draws with `fold_in(key, i)`: draws that are shared would correlate the answers.

    Args:
      indices: [N] the prompts' numbers.
      samples: K >= 2, answers of each policy to each prompt. A prompt takes M K (M K - 1) / 2
        comparisons.
      chunk: comparisons per call of the judge, as in `rewards.judge_matrix`.
    Raises:
      JudgeError: the judge failed; the message names the prompt.
    """
    check_single_turn(task, "tournament")
    drawn = []
    for i, params in enumerate(policies.values()):
        own = jax.random.fold_in(key, i)

        def answers(numbers: list[Any], params: Params = params, own: jax.Array = own) -> Any:
            prompts = make_prompts(lab, task, np.asarray(numbers))
            return lab.draw(params, prompts, own, samples).trajectory

        drawn.append(in_chunks(answers, indices, size=CHUNK))
    pool = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *drawn)
    return pool_tournament(tuple(policies), judge_matrix(judge, indices, pool, chunk=chunk))


def pool_tournament(names: Sequence[str], prefs: ArrayLike) -> Tournament:
    """The same from the preferences of a pool.

    Args:
      prefs: [N, M K, M K], row beats column; K answers of the first policy, then K of the next.
    Raises:
      ValueError: as `exact.answer_games.solve_answer_games`.
    """
    prefs, count = np.asarray(prefs), len(names)
    samples = prefs.shape[1] // count
    blocks = prefs.reshape(len(prefs), count, samples, count, samples)
    wins = blocks.mean((2, 4))
    wins[:, range(count), range(count)] = 0.5
    owners = np.repeat(np.arange(count), samples)
    games = {
        name: solve_answer_games(prefs, np.broadcast_to(owners == i, prefs.shape[:2]))
        for i, name in enumerate(names)
    }
    return Tournament(tuple(names), wins, games)
