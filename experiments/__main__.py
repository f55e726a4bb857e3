"""`python -m experiments`: list, run, gather and begin the experiments found in this folder.

    python -m experiments list [--json]
    python -m experiments run <slug> [--quick | --size NAME] [--out DIR] [--resume] [--field VALUE]
    python -m experiments run all --quick
    python -m experiments report [--out DIR]
    python -m experiments new <slug>

Exit codes: 0 all claims hold, 3 one fails or is undecided, 2 bad arguments or input, 1 a crash,
130 or 143 stopped by Ctrl-C or SIGTERM after saving.
"""

import dataclasses
import importlib
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import experiments
from experiments.new import next_steps, write_experiment
from experiments.options import (
    BadArguments,
    check_numbers,
    check_option,
    nearest,
    option_names,
    override,
)

RESULTS = Path("results")
WORST_LAST = (0, 3, 2, 1)
RUN_HELP = """\
usage: python -m experiments run <slug> [--quick | --size NAME] [--out DIR] [--resume] [--FIELD X]

  --quick       the smallest size, same as --size quick
  --size NAME   one of the sizes of its config: {sizes}
  --out DIR     results folder (default: results/<slug>, or results/<slug>-<size> for another size)
  --resume      go on with an unfinished run, or show a finished one again
"""


@dataclass(frozen=True)
class Request:
    """A `run` command taken apart; `rest` is what the experiment's own config has to understand."""

    slug: str
    size: str = "default"
    out: Path | None = None
    resume: bool = False
    help: bool = False
    rest: tuple[str, ...] = ()

    def folder(self) -> Path:
        """Where results go."""
        name = self.slug if self.size == "default" else f"{self.slug}-{self.size}"
        return self.out or RESULTS / name


def main(argv: Sequence[str]) -> int:
    """Runs a command and returns its exit code."""
    # XLA has threads of its own. Beside them OpenBLAS's spin: 95 ms for a system of 196 unknowns on
    # two busy cores, 0.4 ms with one thread. Read once, when NumPy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    commands = {
        "list": list_command,
        "run": run_command,
        "report": report_command,
        "new": new_command,
    }
    try:
        if not argv or argv[0] in ("-h", "--help"):
            print(__doc__)
            return 0 if argv else 2
        if argv[0] not in commands:
            raise BadArguments(f"unknown command {argv[0]!r}" + nearest(argv[0], commands))
        return commands[argv[0]](argv[1:])
    except BadArguments as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        return 130


def complain(error: Exception) -> None:
    """Prints an error as one line, its control characters spelt out."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
    print(f"error: {line}", file=sys.stderr)


def slugs() -> list[str]:
    """The folders with a config, sorted; `_skeleton`, which `new` copies, is not among them."""
    folders = [folder for root in experiments.__path__ for folder in Path(root).glob("[!_]*")]
    return sorted(folder.name for folder in folders if (folder / "config.py").is_file())


def list_command(argv: Sequence[str]) -> int:
    """Prints the experiments by group, what each claims and takes, without importing jax."""
    unknown = [arg for arg in argv if arg != "--json"]
    if unknown:
        raise BadArguments(f"list has no option {unknown[0]!r}" + nearest(unknown[0], ["--json"]))
    found = []
    for slug in slugs():
        about = importlib.import_module(f"experiments.{slug}")
        facts = {"paper": about.PAPER, "claim": about.CLAIM, "minutes": about.MINUTES}
        found.append({"slug": slug, **facts, "group": about.GROUP, "needs": needs(slug)})
    if "--json" in argv:
        print(json.dumps(found, indent=1))
        return 0
    for title, members in by_group({entry["slug"]: entry["group"] for entry in found}).items():
        print(title)
        for entry in found:
            if entry["slug"] in members:
                options = f"  needs {entry['needs']}" if entry["needs"] else ""
                print(f"  {entry['slug']}  ({entry['minutes']} min){options}")
                print(f"      {entry['paper']}\n      {entry['claim']}")
    return 0


def by_group(groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Title of a group -> its slugs, from slug -> GROUP; unknown groups come last, as they are."""
    order = [*experiments.GROUPS, *sorted({*groups.values()} - {*experiments.GROUPS})]
    found = {group: [slug for slug in groups if groups[slug] == group] for group in order}
    return {experiments.GROUPS.get(group, group): slugs for group, slugs in found.items() if slugs}


def needs(slug: str) -> str:
    """The options without which an experiment cannot run, such as `--data FILE`; "" for most."""
    return getattr(importlib.import_module(f"experiments.{slug}"), "NEEDS", "")


def run_command(argv: Sequence[str]) -> int:
    """Runs one experiment, or one after the other all that need no option of their own."""
    request = parse_run(argv)
    if request.slug != "all":
        return run_one(request)
    if request.rest or request.help:
        raise BadArguments("run all takes --quick, --size, --out and --resume only")
    codes = {}
    for slug in slugs():
        if needs(slug):
            print(f"== {slug}: skipped, it needs {needs(slug)}", flush=True)
            continue
        print(f"== {slug}", flush=True)
        out = None if request.out is None else request.out / slug
        codes[slug] = run_and_survive(dataclasses.replace(request, slug=slug, out=out))
        if codes[slug] > 3:
            return codes[slug]
    for slug, code in codes.items():
        print(f"{slug}: exit {code}")
    root = request.out or RESULTS
    if root.is_dir():
        print(f"all results: {write_results(root)}")
    return max(codes.values(), default=0, key=WORST_LAST.index)


def run_and_survive(request: Request) -> int:
    """One experiment of `run all`, whose crash is shown but does not keep the next from running."""
    try:
        return run_one(request)
    except BadArguments as error:
        complain(error)
        return 2
    except Exception:  # the border of one experiment: whatever it was, the others still run
        traceback.print_exc()
        return 1


def report_command(argv: Sequence[str]) -> int:
    """Writes one HTML gallery of all results present."""
    root = RESULTS
    args = list(argv)
    while args:
        name, value = option(args, ("--out",), ())
        if name is None:
            raise BadArguments(f"report has no option {args[0]!r}" + nearest(args[0], ["--out"]))
        root = Path(str(value))
    if not root.is_dir():
        fault = "is a file" if root.exists() else "does not exist: run an experiment first"
        raise BadArguments(f"{root} {fault}")
    print(write_results(root))
    return 0


def write_results(root: Path) -> Path:
    """Writes the gallery of a folder of results, by group."""
    from rlhf_jax.reports.gallery import write_gallery

    about = {slug: importlib.import_module(f"experiments.{slug}").GROUP for slug in slugs()}
    try:
        return write_gallery(root, by_group(about))
    except OSError as error:
        raise BadArguments(f"cannot write {root / 'index.html'}: {error.strerror}") from error


def new_command(argv: Sequence[str]) -> int:
    """Writes a new experiment and says what to edit next."""
    if len(argv) != 1 or argv[0].startswith("-"):
        raise BadArguments("usage: python -m experiments new <slug>")
    root = Path(experiments.__path__[0]).parent
    try:
        files = write_experiment(argv[0], root)
    except ValueError as error:
        raise BadArguments(str(error)) from error
    except OSError as error:
        raise BadArguments(f"cannot write {error.filename}: {error.strerror}") from error
    print(next_steps(argv[0], files, root))
    return 0


def parse_run(argv: Sequence[str]) -> Request:
    """Takes a `run` command apart; what it does not know stays in `rest`."""
    if not argv or argv[0].startswith("-"):
        if argv and argv[0] in ("-h", "--help"):
            print(RUN_HELP.format(sizes="see run <slug> --help"))
            raise SystemExit(0)
        raise BadArguments(f"run needs an experiment: one of {', '.join([*slugs(), 'all'])}")
    slug, args = argv[0], list(argv[1:])
    if slug not in (*slugs(), "all"):
        raise BadArguments(f"unknown experiment {slug!r}" + nearest(slug, [*slugs(), "all"]))
    request, rest = Request(slug), []
    while args:
        name, value = option(args, ("--out", "--size"), ("--quick", "--resume", "--help", "-h"))
        if name is None:
            rest.append(args.pop(0))
        elif name == "--quick":
            request = dataclasses.replace(request, size="quick")
        elif name in ("--help", "-h"):
            request = dataclasses.replace(request, help=True)
        elif name == "--out":
            request = dataclasses.replace(request, out=Path(str(value)))
        else:
            given = True if value is None else value
            request = dataclasses.replace(request, **{name.removeprefix("--"): given})
    return dataclasses.replace(request, rest=tuple(rest))


def option(
    args: list[str], valued: Sequence[str], flags: Sequence[str]
) -> tuple[str | None, str | None]:
    """Takes one known option, as `--name value` or `--name=value`, from the front of args."""
    name, equals, value = args[0].partition("=")
    if name in flags:
        if equals:
            raise BadArguments(f"{name} takes no value, got {args[0]}")
        return args.pop(0), None
    if name not in valued:
        return None, None
    args.pop(0)
    if not equals and args and not args[0].startswith("--"):
        value = args.pop(0)
    if not value:
        raise BadArguments(f"{name} needs a value")
    return name, value


def run_one(request: Request) -> int:
    """Runs one experiment to its exit code: 0, 3, 130 or 143; expected errors end in one line."""
    config = make_config(request)
    from rlhf_jax.training.compiles import keep_programs
    from rlhf_jax.training.errors import Interrupted, UserError

    keep_programs()
    try:
        return execute(request, config, request.folder())
    except Interrupted as stopped:
        saved = "finished stages and steps are saved"
        print(f"\nstopped {stopped}; {saved}. To go on: {resume_command(request)}", file=sys.stderr)
        return 128 + stopped.signum
    except KeyboardInterrupt as stopped:
        print(f"\nstopped without saving. To go on: {resume_command(request)}", file=sys.stderr)
        return 128 + next(iter(stopped.args), signal.SIGINT)
    except UserError as error:
        complain(error)
        return error.exit_code


def execute(request: Request, config: Any, out: Path) -> int:
    """The run itself: stages, claims, summary.json, and the tables on the screen."""
    from rlhf_jax.reports.claims import claims_table, print_table, write_summary
    from rlhf_jax.reports.pages import sign_page
    from rlhf_jax.training import check_stop, open_run, run_seconds, stop_on_signals

    about = importlib.import_module(f"experiments.{request.slug}")
    script = importlib.import_module(f"experiments.{request.slug}.run")
    with (
        stop_on_signals() as stop,
        open_run(
            out,
            slug=request.slug,
            config=config,
            resume=request.resume,
            sources=[Path(str(about.__file__)).parent],
            stop=stop,
            progress=True,
        ) as run,
    ):
        outcome = script.run(config, run)
        check_stop(run, "after the last stage")
        write_summary(
            out,
            slug=request.slug,
            paper=about.PAPER,
            seconds=run_seconds(run),
            versions=run.versions,
            config=run.config,
            claims=outcome.claims,
            size=request.size,
            claim=about.CLAIM,
            numbers=outcome.numbers,
            environments=run.environments,
            command=command(request),
        )
        sign_page(out)
    print_table(claims_table(outcome.claims))
    report = out / "report.html"
    print(f"results: {report if report.exists() else out}")
    if outcome.table is not None:
        print_table(outcome.table)
    return 0 if all(claim.holds for claim in outcome.claims) else 3


def make_config(request: Request) -> Any:
    """The config of the wanted size, with the command line's overrides.

    Raises:
      BadArguments: unknown size or option, or a value out of range.
    """
    module = importlib.import_module(f"experiments.{request.slug}.config")
    sizes = {
        name: function
        for name, function in vars(module).items()
        if getattr(function, "__annotations__", {}).get("return") in (module.Config, "Config")
        and function.__module__ == module.__name__
    }
    if request.size not in sizes:
        raise BadArguments(
            f"{request.slug} has no size {request.size!r}" + nearest(request.size, sizes)
        )
    config = sizes[request.size]()
    if request.help:
        print(RUN_HELP.format(sizes=", ".join(sizes)))
    else:
        known = list(option_names(config))
        for arg in request.rest:
            check_option(arg, known)
    args = [*request.rest, *(["--help"] if request.help else [])]
    config = override(config, args, request.slug)
    check_numbers(config)
    return config


def command(request: Request, *folder: str) -> str:
    """The command that repeats a run. folder: the options that say where."""
    parts = ["python", "-m", "experiments", "run", request.slug]
    if request.size != "default":
        parts += ["--quick"] if request.size == "quick" else ["--size", request.size]
    return shlex.join([*parts, *folder, *request.rest])


def resume_command(request: Request) -> str:
    """The command that goes on with a run."""
    folder = () if request.out is None else ("--out", str(request.out))
    return f"{command(request, *folder)} --resume"


def leave(code: int) -> None:
    """Ends the process, after a stop at once: the interpreter would wait for compiled code."""
    if code > 128:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
