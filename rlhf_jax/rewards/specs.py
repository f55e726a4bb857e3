"""Rewards by a short text, as a command line has them."""

from pathlib import Path
from typing import NamedTuple

from rlhf_jax.rewards.chat_judges import ChatModel, chat_pairs, chat_reward
from rlhf_jax.rewards.functions import load_compare, load_function
from rlhf_jax.rewards.judges import ComparePairs
from rlhf_jax.rewards.mathematics import math_reward
from rlhf_jax.rewards.programs import load_text_program, program_reward
from rlhf_jax.rewards.verifiers import code_reward, exact_reward, regex_reward
from rlhf_jax.types import TextReward


class NamedReward(NamedTuple):
    """name: of its score. reward: the function. wanted: the column it cannot do without, or None;
    for `record_score`."""

    name: str
    reward: TextReward
    wanted: str | None


def make_reward(spec: str) -> NamedReward:
    """The reward of a spec.

    | spec | reward |
    |---|---|
    | `exact`, `exact:COLUMN` | `exact_reward` of the column, "answer" |
    | `math`, `math:COLUMN` | `math_reward`, likewise |
    | `tests`, `tests:COLUMN` | `code_reward` of the column, "tests" |
    | `regex:PATTERN` | `regex_reward` |
    | `program:FILE` | `program_reward` of the program in the file |
    | `http://ADDRESS/v1#MODEL`, `https://...` | `chat_reward` |
    | `module:function`, `file.py:function` | `load_function` |

    Raises:
      ValueError: the spec is none of these, or its reward cannot be made.
    """
    kind, _, rest = spec.partition(":")
    verifiers = {
        "exact": (exact_reward, "answer"),
        "math": (math_reward, "answer"),
        "tests": (code_reward, "tests"),
    }
    if kind in verifiers:
        make, column = verifiers[kind]
        return NamedReward(kind, make(rest or column), rest or column)
    if kind == "regex" and rest:
        return NamedReward(kind, regex_reward(rest), None)
    if kind == "program" and rest:
        return NamedReward(
            Path(rest).stem, program_reward(load_text_program(rest), name=rest), None
        )
    if kind in ("http", "https"):
        return NamedReward("judge", chat_reward(chat_model(spec)), None)
    if not kind or not rest:
        raise ValueError(
            f"reward {spec!r}: expected exact, math, tests, regex:PATTERN, program:FILE, "
            "module:function, file.py:function, http://ADDRESS/v1#MODEL or the folder of a reward "
            "model"
        )
    return NamedReward(rest, load_function(spec), None)


def make_compare(spec: str) -> ComparePairs:
    """The judge of two answers: `http://ADDRESS/v1#MODEL` for `chat_pairs`, or `module:function`.

    Raises:
      ValueError: the spec is neither, or its judge cannot be made.
    """
    if spec.partition(":")[0] in ("http", "https"):
        return chat_pairs(chat_model(spec))
    if not all(spec.partition(":")):
        raise ValueError(f"judge {spec!r}: expected module:function or http://ADDRESS/v1#MODEL")
    return load_compare(spec)


def chat_model(spec: str) -> ChatModel:
    """The model of `http://ADDRESS/v1#MODEL`.

    Raises:
      ValueError: the model has no name, or the address no http.
    """
    if spec.partition(":")[0] not in ("http", "https"):
        raise ValueError(f"{spec!r}: expected http://ADDRESS/v1#MODEL")
    url, _, model = spec.partition("#")
    if not model:
        raise ValueError(f"{spec!r}: name the model behind the address, {url}#MODEL")
    return ChatModel(url, model)
