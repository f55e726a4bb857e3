"""From `sys.argv` to an exit code: 0 done, 2 bad usage or input, 1 a failure.

After Ctrl-C it is 130; after SIGTERM, or a notice of preemption to any process of several, 143.
"""

import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rlhf_jax.cli.arguments import BadArguments, nearest, parse, read_config
from rlhf_jax.cli.commands import COMMANDS, manual
from rlhf_jax.cli.processes import joining


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; expected errors end in one line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(manual())
            return 0 if words else 2
        return _run(*_resolved(words))
    except BadArguments as error:
        return _complain(error, 2)
    except SystemExit as done:  # tyro, after --help
        return int(done.code or 0)


def _resolved(words: list[str]) -> tuple[str, list[str]]:
    """The command and its flags; `rlhf run config.json ...` has both from a file."""
    several = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    size = 2 if several else 1
    command, rest = " ".join(words[:size]), words[size:]
    if command == "run":
        if not rest or rest[0].startswith("-"):
            raise BadArguments("usage: rlhf run config.json --out DIR [--option value ...]")
        command, known = read_config(Path(rest[0]))
        rest = [*known, *rest[1:]]
    if command not in COMMANDS:
        known = several or [*COMMANDS, "run"]
        raise BadArguments(f"rlhf has no command {command!r}{nearest(command, known)}")
    return command, [*COMMANDS[command].preset, *rest]


def _run(command: str, flags: list[str]) -> int:
    """One command, from its flags to its exit code."""
    found = COMMANDS[command]
    module = importlib.import_module(found.module)
    options = parse(getattr(module, found.options), flags, command)
    from rlhf_jax.training.compiles import keep_programs
    from rlhf_jax.training.errors import Interrupted, UserError
    from rlhf_jax.training.processes import leave

    keep_programs()
    try:
        with joining(options):
            getattr(module, found.function)(command, options)
    except UserError as error:
        return leave(_complain(error, error.exit_code))
    except Interrupted as stopped:
        print(f"\nstopped {stopped}; saved. To go on: add --resume", file=sys.stderr)
        return 128 + stopped.signum
    except RuntimeError as error:  # of XLA
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        from rlhf_jax.cli.memory import out_of_memory

        return _complain(out_of_memory(command, options), 1)
    except KeyboardInterrupt as stopped:
        print("\nstopped without saving. To go on: add --resume", file=sys.stderr)
        return leave(128 + next(iter(stopped.args), signal.SIGINT))
    return 0


def _complain(error: Exception, code: int) -> int:
    """Prints an error as one line, its control characters spelt out."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
    print(f"error: {line}", file=sys.stderr)
    return code
