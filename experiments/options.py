"""Options of a config on the command line: names, values, and what is wrong with one."""

import dataclasses
import difflib
import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any


class BadArguments(Exception):
    """The command line is wrong; the message is one line with the fix."""


def option_names(config: Any, prefix: str = "") -> list[str]:
    """Every option a config understands, nested ones dotted, as they are typed."""
    names = []
    for field in dataclasses.fields(config):
        value, dotted = getattr(config, field.name), prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            names += option_names(value, f"{dotted}.")
        else:
            names.append(f"--{dotted}")
        if isinstance(value, bool):
            names.append(f"--{prefix}no-{field.name.replace('_', '-')}")
    return names


def check_option(arg: str, known: Sequence[str]) -> None:
    """Raises BadArguments for an option that no config field answers to."""
    name = arg.partition("=")[0].replace("_", "-")
    if name.startswith("--") and name not in known:
        options = [*known, "--quick", "--size", "--out", "--resume"]
        raise BadArguments(f"unknown option {arg.partition('=')[0]}" + nearest(name, options))


def check_numbers(config: Any, prefix: str = "") -> None:
    """Raises BadArguments for a number that no array can hold: NaN, infinite or too large.

    A float must fit float32, an integer int32; the seed of keys and of batches lies in [0, 2^32).
    """
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            check_numbers(value, f"{name}.")
        low, high = (0, 2**32) if field.name == "seed" else (-(2**31), 2**31)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not low <= number < high:
                raise BadArguments(f"{name} must be in [{low}, {high}), got {number}")
            if isinstance(number, float) and not abs(number) < 3.4e38:
                raise BadArguments(f"{name} must be finite in float32, got {number}")


def override(config: Any, args: Sequence[str], slug: str) -> Any:
    """The config with tyro's reading of the arguments; tyro's framed complaint becomes one line."""
    import tyro

    text = io.StringIO()
    command = f"python -m experiments run {slug}"
    try:
        if "--help" in args:
            return tyro.cli(type(config), args=args, default=config, prog=command)
        with redirect_stderr(text), redirect_stdout(text):
            return tyro.cli(type(config), args=args, default=config, prog=command)
    except SystemExit as exit_request:
        if not exit_request.code:
            raise
        raise BadArguments(complaint(text.getvalue(), config)) from None


def complaint(framed: str, config: Any) -> str:
    """What is wrong, from tyro's message: a title, a rule, the fault, a rule, and advice.

    `Error parsing ppo: beta must be > 0` becomes `ppo.beta must be > 0`.
    """
    lines = [line.strip() for line in framed.splitlines()]
    rules = [i for i, line in enumerate(lines) if line and not line.strip("-─")]
    start, end = (*rules, len(lines))[:2] if len(rules) > 1 else (-1, len(lines))
    message = " ".join(lines[start + 1 : end]).strip().removeprefix("Error parsing ")
    where, colon, what = message.partition(": ")
    if colon and where == type(config).__name__:
        return what
    if colon and f"--{where}.{what.split(' ')[0].replace('_', '-')}" in option_names(config):
        return f"{where}.{what}"
    return message.replace("Unrecognized options: ", "unexpected argument ")


def nearest(name: str, known: Any) -> str:
    """`: did you mean "shop"?`, or the choices if nothing is near; swapped letters are nearest."""
    swapped = [word for word in known if sorted(word) == sorted(name)]
    close = swapped or difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if close:
        return f": did you mean {close[0]}?"
    return f": choose from {', '.join(known)}" if known else ""
