"""The origin of results and checkpoints, and whether it still matches the run.

A result and a checkpoint store their origin: the slug of the run, the stage, a digest of the config
and, under "after", a digest of the result of each earlier stage with its rows of metrics.jsonl.
"""

from collections.abc import Container
from pathlib import Path
from typing import Any

from rlhf_jax.training import checkpoints
from rlhf_jax.training.checkpoints import REMEDY, Store
from rlhf_jax.training.errors import CheckpointError

Origin = dict[str, Any]


def result_digest(record: dict[str, Any]) -> str:
    """SHA-256 of the result of a stage: the digests of its arrays, their nesting, and its info."""
    return checkpoints.json_digest({name: record[name] for name in ("leaves", "skeleton", "info")})


def loops(stage_folder: Path, *, but: Container[str] = ()) -> dict[str, Origin]:
    """The loops of a stage (except `but`) that have a checkpoint, with the origin of the newest.

    A copy of a loop under another name is ignored.
    """
    found = {}
    for path in sorted(stage_folder.iterdir()) if stage_folder.is_dir() else ():
        steps = [] if path.name in but else checkpoints.steps(Store(path))
        if steps:
            record = checkpoints.read_record(checkpoints.folder_of(Store(path), steps[-1]))
            if record["metadata"].get("part") == path.name:
                found[path.name] = record["metadata"]["origin"]
    return found


def later(stage_folder: Path, done: dict[str, Any]) -> dict[str, Origin]:
    """Later stages that were begun in an earlier session, so they depend on this one."""
    found = {}
    for path in sorted(stage_folder.parent.iterdir()) if stage_folder.parent.is_dir() else ():
        if path == stage_folder or path.name in done or not path.is_dir():
            continue
        if (path / "result").is_dir():
            origins = [checkpoints.read_record(path / "result").get("origin")]
        else:
            origins = list(loops(path).values())
        if origins and origins[0] and origins[0]["stage"] == path.name:
            found[path.name] = origins[0]
    return found


def check(held: Path, found: Origin | None, wanted: Origin, stage_folder: Path) -> None:
    """Raises CheckpointError unless `held`, in a stage's folder, has the wanted origin."""
    if found == wanted:
        return
    if found is None or any(found[name] != wanted[name] for name in ("slug", "stage", "config")):
        words = "belongs to no stage"
        if found is not None:
            words = f"belongs to stage {found['stage']} of a run of {found['slug']}"
            words += "" if found["config"] == wanted["config"] else " with another config"
        raise CheckpointError(f"{held} {words}: {REMEDY}")
    stage, then, now = wanted["stage"], found["after"], wanted["after"]
    others = [name for name, one in later(stage_folder, now).items() if stage in one["after"]]
    before = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    raise went_on(stage_folder.parent, [stage, *others], before)


def went_on(stages: Path, names: list[str], before: list[str]) -> CheckpointError:
    """The error for stages that depend on earlier results which have changed."""
    folders = " and ".join(str(stages / name) for name in names)
    return CheckpointError(
        f"a finished stage depends on an earlier result of {' and '.join(before)}: "
        f"delete {folders}, then resume"
    )
