"""Results folders: whether a run may use one, and the files at its top."""

import dataclasses
import fcntl
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlhf_jax.training.checkpoints import TEMPORARY, write_json
from rlhf_jax.training.errors import ResultsError, is_disk_full

FILLED = ("data", "stages", "tensorboard")  # the folders that a run writes into


def config_json(config: Any) -> Any:
    """A config of nested dataclasses as plain JSON values; paths become text."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: config_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {str(key): config_json(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [config_json(value) for value in config]
    return config if config is None or isinstance(config, bool | int | float | str) else str(config)


def holds_work(out: Path) -> bool:
    """Whether the folder has results or checkpoints of a run."""
    kept = ("summary.json", "stages/*/result", "stages/*/*/step_*")
    return any(any(out.glob(pattern)) for pattern in kept)


def note_environment(out: Path, now: dict[str, Any], *, say: bool) -> list[dict[str, Any]]:
    """Adds an environment to run.json, prints the differences, and returns all environments."""
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    known = record["environments"]
    for name, before, after in differences(known[0], now) if say else ():
        what = name.removeprefix("versions.").replace("sources.", "sources of ")
        line = f"note: started with {what} {before}, continuing with {after}: numbers may differ"
        print(line if line.isprintable() else ascii(line))  # run.json may come from elsewhere
    if now not in known:
        known.append(now)
        write_json(out / "run.json", record)
    return known


def check_folder(out: Path, record: dict[str, Any], *, resume: bool) -> None:
    """Raises ResultsError unless the folder may be used."""
    if out.is_symlink() and not out.exists():
        raise ResultsError(f"{out} is a link to nothing: choose another --out")
    if not out.exists():
        return
    if not out.is_dir():
        raise ResultsError(f"{out} is a file: choose another --out")
    entries = [p for p in out.iterdir() if p.name != ".lock" and not p.name.startswith(TEMPORARY)]
    if not (out / "run.json").exists():
        if entries:
            raise ResultsError(f"{out} is not empty and holds no run: choose another --out")
        return
    try:
        held = json.loads((out / "run.json").read_text(encoding="utf-8"))
        held_slug, held_config = held["slug"], held["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{out / 'run.json'} cannot be read: choose another --out or delete {out}"
        ) from error
    remedy = "choose another --out or delete it"
    if not holds_work(out) and ("left" in held or not files(out)):
        return
    environments = held.get("environments")
    if not (isinstance(environments, list) and environments):
        raise ResultsError(f"{out} was written by an older version, without digests: {remedy}")
    if held_slug != record["slug"]:
        raise ResultsError(f"{out} holds a run of {held_slug}, not {record['slug']}: {remedy}")
    differing = differences(held_config, json.loads(json.dumps(record["config"])))
    if differing:
        raise ResultsError(f"{out} holds a run with {_in_words(differing)}: {remedy}")
    if not resume and holds_work(out):
        finished = (out / "summary.json").exists()
        state = "this run, finished" if finished else "this run, unfinished"
        verb = "show its results again" if finished else "continue it"
        raise ResultsError(f"{out} holds {state}: add --resume to {verb}, or {remedy}")


def differences(a: Any, b: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """The leaves in which two nested JSON values differ, as (dotted name, a's, b's)."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return [] if a == b else [(prefix, a, b)]
    found = []
    for name in dict.fromkeys([*a, *b]):
        dotted = f"{prefix}.{name}" if prefix else name
        found += differences(a.get(name, "(absent)"), b.get(name, "(absent)"), dotted)
    return found


def _in_words(differing: list[tuple[str, Any, Any]]) -> str:
    """`ppo.beta = 0.05, this one has 0.1`, for the first three differences."""
    theirs = ", ".join(f"{name} = {a}" for name, a, _ in differing[:3])
    ours = ", ".join(str(b) for _, _, b in differing[:3])
    more = f" and {len(differing) - 3} more differences" if len(differing) > 3 else ""
    return f"{theirs}, this one has {ours}{more}"


def files(out: Path) -> list[str]:
    """Every file in the folders that a run writes into, by its path below `out`."""
    found = [path for name in FILLED for path in (out / name).rglob("*") if not path.is_dir()]
    return sorted(str(path.relative_to(out)) for path in found)


def clear(out: Path) -> bool:
    """Removes the files of a run that saved nothing, as listed by `note_files`, and no others.

    Returns False if the run was killed before it made the list, and files of unknown origin remain.
    """
    path, left = out / "run.json", None
    if path.exists():
        left = json.loads(path.read_text(encoding="utf-8")).get("left")
    there = files(out)
    known = left is not None or not there
    for name in (*(name for name in there if name in (left or ())), "run.json", "metrics.jsonl"):
        (out / name).unlink(missing_ok=True)
    folders = [path for name in FILLED for path in (out / name, *(out / name).rglob("*"))]
    for path in reversed(folders):  # a folder comes before what is in it
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
    return known


def note_files(out: Path, before: list[str]) -> None:
    """For a run that saved nothing: lists in run.json the files that it has added to the folder."""
    if (out / "run.json").exists() and not holds_work(out):
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        left = sorted({*files(out)} - {*before})
        write_json(out / "run.json", {**record, "left": left})


@contextmanager
def naming_bad_folder(out: Path) -> Generator[None, None, None]:
    """Turns an OSError about a folder that cannot be created or written into a ResultsError."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise
        reason = f"{_cut(error.filename or out)}: {error.strerror}"
        raise ResultsError(
            f"{_cut(out)} cannot hold results ({reason}): choose another --out"
        ) from error


def _cut(path: object) -> str:
    """A path as one short line."""
    text = str(path)
    return text if len(text) <= 100 else f"{text[:60]}...{text[-20:]}"


@contextmanager
def locked(out: Path) -> Generator[None, None, None]:
    """Holds the folder for this process; the lock ends with the process, however it ends."""
    with open(out / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResultsError(f"{out} is in use by another run: choose another --out") from error
        yield
