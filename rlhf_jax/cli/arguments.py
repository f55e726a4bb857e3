"""From a command line to a dataclass, by tyro, and back to flags from a config.json."""

import dataclasses
import difflib
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

Options = TypeVar("Options")


class BadArguments(Exception):
    """The command line is wrong; the message is one line with the fix."""


def parse(kind: type[Options], arguments: Sequence[str], command: str) -> Options:
    """The options of a command; tyro's framed complaint becomes one line.

    Raises:
      BadArguments: an option or a value that the command cannot use.
      SystemExit: help was asked for and printed.
    """
    import tyro

    markers = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
    text, wanted = io.StringIO(), {"--help", "-h"} & {*arguments}

    def run() -> Options:
        return tyro.cli(kind, args=arguments, prog=f"rlhf {command}", config=markers)

    if wanted:
        return run()
    try:
        with redirect_stderr(text), redirect_stdout(text):
            return run()
    except SystemExit:
        raise BadArguments(_one_line(text.getvalue(), kind, command)) from None


def flags(options: dict[str, Any]) -> list[str]:
    """The command line that gives these options: the values of a config.json by their names."""
    words = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, dict):
            words += (
                [flag, *(str(part) for pair in value.items() for part in pair)] if value else []
            )
        elif isinstance(value, list):
            words += [flag, *map(str, value)] if value else []
        else:
            words += [flag, str(value)]
    return words


def flat(options: Any) -> dict[str, Any]:
    """Options by the name of their flag, as JSON values; flags have no prefixes."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            found |= flat(value)
        else:
            found[field.name] = _plain(value)
    return found


def read_config(path: Path) -> tuple[str, list[str]]:
    """The command of a config.json, and its flags.

    Raises:
      BadArguments: no such file, or not written by a run.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return str(held["command"]), flags(held["options"])
    except OSError as error:
        raise BadArguments(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadArguments(
            f"{path} is no config of a run: expected "
            '{"command": "sft", "options": {"model": "...", ...}}'
        ) from error


def option_names(kind: Any) -> Iterator[str]:
    """Every flag of a command."""
    for field in dataclasses.fields(kind):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from option_names(field.type)
        elif hasattr(field.type, "__metadata__"):  # Annotated: it has no flag
            yield field.name.upper()
        else:
            yield f"--{field.name.replace('_', '-')}"


def nearest(name: str, known: Sequence[str]) -> str:
    """`: did you mean sft?`, or the choices if nothing is near; swapped letters are nearest."""
    swapped = [word for word in known if sorted(word) == sorted(name)]
    close = swapped or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f": did you mean {close[0]}?" if close else f": choose from {', '.join(known)}"


def _one_line(framed: str, kind: Any, command: str) -> str:
    """The fault in tyro's message: a title, a rule, the fault, a rule, and advice."""
    lines = [line.strip("│╭╮╰╯ ") for line in framed.splitlines()]
    text = " ".join(line for line in lines if line.strip("-─ "))
    known = list(option_names(kind))
    if found := re.search(r"Unrecognized options: (\S+)", text):
        name = found[1].partition("=")[0]
        near = nearest(name, known) if name.startswith("--") else ""
        return f"rlhf {command} has no option {name}{near}"
    if "equired" in text:
        missing = [name for name in known if re.search(rf"{name}(?![\w-])", text)]
        return f"rlhf {command} needs {' and '.join(missing)}; see rlhf {command} --help"
    text = re.split(r" For full helptext| Argument helptext| Got errors", text)[0]
    found = re.search(r"Error parsing (\S+): (.*)", text)
    if found is None:
        return f"rlhf {command}: {text}"
    where, fault = found.groups()
    if where.startswith("--"):
        return f"rlhf {command}: {where} {fault}"
    return fault if fault.startswith("--") else f"--{_dashed(fault)}"


def _dashed(fault: str) -> str:
    """`batch_size must ...` as `batch-size must ...`."""
    name, space, rest = fault.partition(" ")
    return name.replace("_", "-") + space + rest


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
