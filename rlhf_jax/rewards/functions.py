"""Rewards that the user wrote, and rewards as the score of a task."""

import difflib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_jax.rewards.judges import ComparePairs
from rlhf_jax.rewards.outcomes import SimulateOutcomes
from rlhf_jax.types import TextReward

Records = Sequence[Mapping[str, Any]]


def load_function(name: str) -> TextReward:
    """The reward "module:function" or "file.py:function"; the current folder has its modules.

    The function gets `(prompts, answers, **columns)`: of the columns, the fields of the prompts'
    records, those that it names, or all of them if it has a `**` argument. It returns one number
    for each answer, None to leave one out.

    Raises:
      ValueError: no such module, file or function, its module fails, or it does not take the two.
    """
    return _with_its_columns(name, _found(name))


def load_compare(name: str) -> ComparePairs:
    """The comparison "module:function", `(prompts, first, second) -> N times P(first beats second)`
    or None.

    Raises:
      ValueError: as `load_function`.
    """
    function = _found(name)
    try:
        inspect.signature(function).bind([], [], [])
    except TypeError as error:
        raise ValueError(f"judge {name!r} must take (prompts, first, second): {error}") from None
    return function


def load_outcomes(name: str) -> SimulateOutcomes:
    """What simulates outcomes, "module:function": `(prompts, answers) -> N texts` or None.

    Raises:
      ValueError: as `load_function`.
    """
    function = _found(name)
    try:
        inspect.signature(function).bind([], [])
    except TypeError as error:
        raise ValueError(f"outcomes {name!r} must take (prompts, answers): {error}") from None
    return function


def _found(name: str) -> Any:
    """The function "module:function" or "file.py:function"."""
    module_name, _, function_name = name.rpartition(":")
    if not module_name or not function_name:
        raise ValueError(f"reward {name!r}: expected module:function, e.g. my_rewards:is_short")
    load = _import_file if module_name.endswith(".py") else _import
    module = load(name, module_name)
    function = getattr(module, function_name, None)
    if function is None:
        known = [each for each, value in vars(module).items() if inspect.isfunction(value)]
        near = difflib.get_close_matches(function_name, known, n=1) or sorted(known)[:8]
        there = f"it has {', '.join(near)}" if near else "it has no functions"
        raise ValueError(f"reward {name!r}: {module_name} has no {function_name}; {there}")
    if not callable(function):
        raise ValueError(f"reward {name!r} is no function but {function!r:.60}")
    return function


def record_score(
    rewards: Mapping[str, TextReward],
    records: Records,
    *,
    field: str = "prompt",
    wanted: Mapping[str, str] | None = None,
) -> Callable[[Any, Sequence[str]], dict[str, Sequence[Any]]]:
    """Rewards by name as the `score` of a task: `(numbers [N], answers) -> {name: N numbers}`.

    >>> rows = [{"prompt": "6 x 7?", "answer": "42"}, {"prompt": "1 + 1?", "answer": "2"}]
    >>> def exact(prompts, answers, answer):
    ...     return [float(a == b) for a, b in zip(answers, answer)]
    >>> record_score({"exact": exact}, rows)([1, 0, 1], ["2", "2", "3"])
    {'exact': [1.0, 0.0, 0.0]}

    Args:
      records: the prompts' records by number; a column of a record that lacks it is None.
      field: of the prompt in a record.
      wanted: name of a reward -> the column that it cannot do without.
    Raises:
      ValueError: a record lacks a wanted column; it names the record. From the score, what a
        reward raises.
    """
    for name, column in (wanted or {}).items():
        for number, record in enumerate(records):
            if record.get(column) is None:
                raise ValueError(
                    f"the reward {name!r} reads the field {column!r}, which prompt {number} lacks; "
                    f"its fields are {sorted(record)}"
                )
    columns = sorted({name for record in records for name in record} - {field})

    def score(indices: Any, answers: Sequence[str]) -> dict[str, Sequence[Any]]:
        rows = [records[int(index)] for index in indices]
        prompts = [row[field] for row in rows]
        asked = {name: [row.get(name) for row in rows] for name in columns}
        return {name: reward(prompts, answers, **asked) for name, reward in rewards.items()}

    return score


def _import(name: str, module_name: str) -> Any:
    if os.getcwd() not in sys.path:  # absent for an installed command
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"reward {name!r}: importing {module_name}: {error}") from error
        raise ValueError(
            f"reward {name!r}: no module {error.name!r} in {os.getcwd()} or among the installed"
        ) from error
    except Exception as error:  # the module is the user's code and may raise anything
        raise _import_failed(name, module_name, error) from error


def _import_file(name: str, path: str) -> Any:
    """The module of a file, under the name of its path: two files may have one name."""
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"reward {name!r}: no such file {file}")
    spec = importlib.util.spec_from_file_location(str(file), file)
    assert spec is not None  # of a .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # as in _import
        raise _import_failed(name, path, error) from error
    return module


def _import_failed(name: str, where: str, error: Exception) -> ValueError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return ValueError(f"reward {name!r}: importing {where}: {reason}")


def _with_its_columns(name: str, function: Callable[..., Any]) -> TextReward:
    """The function, given the columns that it names; a column it names must be there."""
    parameters = inspect.signature(function).parameters.values()
    every = any(each.kind is each.VAR_KEYWORD for each in parameters)
    plain = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.KEYWORD_ONLY)]
    if len(plain) < 2 and not any(each.kind is each.VAR_POSITIONAL for each in plain):
        raise ValueError(f"reward {name!r} must take (prompts, answers, **columns)")
    named = [each for each in parameters if each not in plain[:2]]
    named = {
        each.name: each.default is each.empty
        for each in named
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> Any:
        missing = [each for each, needed in named.items() if needed and each not in columns]
        if missing:
            raise ValueError(
                f"reward {name!r} reads the column {missing[0]!r}, and the prompts' records have "
                f"{sorted(columns)}"
            )
        given = columns if every else {each: columns[each] for each in named if each in columns}
        return function(prompts, answers, **given)

    return score
