"""What a message says to do is done here, and the run ends as if nothing had happened."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rlhf_jax.training import checkpoints, open_run, run_stage, train_stage, write_metrics
from rlhf_jax.training.errors import CheckpointError, DiskFullError, Interrupted, ResultsError

STAGES = ("one", "two", "three")


def session(out, *, factor=1.0, stages=STAGES, stop_at=None, config=None, log=None):
    """Stages of three steps, each of which goes on from the one before; returns the last state.

    stop_at: a stage and a step of it in which a signal comes. log: gets (stage, step) of each step.
    """
    now = SimpleNamespace(asked=0)

    def fit(stage, start):
        def step_fn(state, step):
            if log is not None:
                log.append((stage.name, step))
            if (stage.name, step) == stop_at:
                now.asked = 15
            return {"x": state["x"] * 2 + factor}, {"loss": state["x"][0]}

        write_metrics(job.writer, stage.name, [(0, {"start": start["x"][0]})])
        return train_stage(stage, step_fn, start, steps=3, save_every=0), {"stage": stage.name}

    config, stop = config or {"seed": 0}, lambda: now.asked
    with open_run(out, slug="chain", config=config, resume=True, stop=stop) as job:
        state = {"x": np.ones(2)}
        for name in stages:
            state = run_stage(job, name, lambda stage, start=state: fit(stage, start)).arrays
    return state["x"].tolist()


def left_by(out):
    """What must not depend on what went wrong: rows, arrays and the order of stages."""
    results = {}
    for path in out.glob("stages/*/result/checkpoint.json"):
        record = json.loads(path.read_text() + ("}" if path.stat().st_size == 1 else ""))
        results[path.parts[-3]] = [record.get(name) for name in ("leaves", "info", "origin")]
    return (out / "metrics.jsonl").read_bytes(), results


def follow(message):
    """Deletes the folders that a message says are to be deleted."""
    if "delete this folder" in message:
        return shutil.rmtree(message.split(" ")[0])
    for name in message.split("delete ")[1].removesuffix(", then resume").split(" and "):
        shutil.rmtree(name)
    return None


def refused(out, error=CheckpointError, **options):
    """The message of a session that is refused, and that changes nothing."""
    before = left_by(out)
    with pytest.raises(error) as refusal:
        session(out, **options)
    assert left_by(out) == before
    return str(refusal.value)


def damage(folder):
    (folder / "checkpoint.json").write_text("{")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "r"
    return SimpleNamespace(out=out, end=session(out), left=left_by(out))


@pytest.fixture
def out(whole, tmp_path):
    return Path(shutil.copytree(whole.out, tmp_path / "r"))


@pytest.mark.parametrize("lost", [("one",), ("two",), ("three",), ("one", "two")])
def test_a_damaged_result_is_done_again_and_no_other(out, whole, lost):
    for name in lost:
        damage(out / "stages" / name / "result")
        message = refused(out)
        assert message.startswith(f"{out / 'stages' / name / 'result'} is damaged")
        follow(message)
    log = []
    assert session(out, log=log) == whole.end
    assert log == [(name, step) for name in lost for step in range(3)]
    assert left_by(out) == whole.left
    assert sorted(path.name for path in (out / "stages").glob("*/*")) == ["result"] * 3


def test_a_stage_done_again_may_be_stopped(out, whole):
    shutil.rmtree(out / "stages" / "one")
    for step in (0, 1):
        with pytest.raises(Interrupted, match="one after step"):
            session(out, stop_at=("one", step))
    log = []
    assert session(out, log=log) == whole.end
    assert log == [("one", 2)]
    assert left_by(out) == whole.left


def test_a_stage_done_again_while_the_next_is_unfinished(tmp_path, whole):
    out = tmp_path / "r"
    with pytest.raises(Interrupted, match="two after step 2"):
        session(out, stop_at=("two", 1))
    shutil.rmtree(out / "stages" / "one" / "result")
    log = []
    assert session(out, log=log) == whole.end
    assert log == [("one", step) for step in range(3)] + [("two", 2)] + [
        ("three", step) for step in range(3)
    ]
    assert left_by(out) == whole.left


def test_a_stage_that_comes_out_otherwise_names_the_later_ones(out, tmp_path):
    shutil.rmtree(out / "stages" / "one" / "result")
    message = refused(out, factor=3.0)
    later = " and ".join(str(out / "stages" / name) for name in ("three", "two"))
    fault = "a finished stage depends on an earlier result of one"
    assert message == f"{fault}: delete {later}, then resume"
    follow(message)
    assert session(out, factor=3.0) == session(tmp_path / "s", factor=3.0)
    assert left_by(out) == left_by(tmp_path / "s")


def test_deleting_later_stages_while_one_is_done_again(out, whole):
    shutil.rmtree(out / "stages" / "one")
    with pytest.raises(Interrupted):
        session(out, stop_at=("one", 1))
    for name in ("two", "three"):
        shutil.rmtree(out / "stages" / name)
    assert session(out) == whole.end
    assert left_by(out) == whole.left


def test_a_new_stage_before_finished_ones_names_them(out, tmp_path):
    stages = ("one", "new", "two", "three")
    message = refused(out, stages=stages)
    assert "depends on an earlier result of new: delete " in message
    follow(message)
    assert session(out, stages=stages) == session(tmp_path / "s", stages=stages)
    assert left_by(out) == left_by(tmp_path / "s")


def test_one_stage_in_the_place_of_another(out, whole):
    shutil.rmtree(out / "stages" / "two" / "result")
    shutil.copytree(out / "stages" / "one" / "result", out / "stages" / "two" / "result")
    message = refused(out)
    assert f"{out / 'stages/two/result'} belongs to stage one of a run of chain: " in message
    follow(message)
    assert session(out) == whole.end
    assert left_by(out) == whole.left


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"config": {"seed": 1}}, "belongs to stage one of a run of chain with another config"),
        ({"factor": 3.0}, "metrics.jsonl has changed in the 166 bytes known to stage one"),
    ],
)
def test_a_result_of_another_run_in_the_place_of_ones_own(out, tmp_path, whole, options, fault):
    """Of another config, and of the same config under other code."""
    session(tmp_path / "other", stages=("one",), **options)
    place = out / "stages" / "one" / "result"
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "other" / "stages" / "one" / "result", place)
    message = refused(out, (CheckpointError, ResultsError))
    assert fault in message
    shutil.rmtree(out if "factor" in options else place)
    assert session(out) == whole.end
    assert left_by(out) == whole.left


def test_a_stage_that_is_no_longer_there(out, tmp_path):
    stages = STAGES[1:]
    for names in (("two", "three"), ("one",)):
        message = refused(out, stages=stages)
        folders = " and ".join(str(out / "stages" / name) for name in names)
        assert message.startswith("a finished stage depends on an earlier result of ")
        assert message.endswith(f": delete {folders}, then resume")
        follow(message)
    assert session(out, stages=stages) == session(tmp_path / "s", stages=stages)
    assert left_by(out) == left_by(tmp_path / "s")


def test_a_checkpoint_of_another_stage(tmp_path, whole):
    out = tmp_path / "r"
    with pytest.raises(Interrupted):
        session(out, stop_at=("one", 1))
    shutil.copytree(out / "stages" / "one", tmp_path / "copy")
    with pytest.raises(Interrupted):
        session(out, stop_at=("two", 1))
    shutil.rmtree(out / "stages" / "two")
    shutil.copytree(tmp_path / "copy", out / "stages" / "two")
    message = refused(out)
    assert f"{out / 'stages/two/steps'} belongs to stage one of a run of chain: " in message
    follow(message)
    assert session(out) == whole.end
    assert left_by(out) == whole.left


@pytest.mark.parametrize("fault", ["lost rows", "changed"])
def test_rows_that_were_lost_or_edited(out, whole, fault):
    path, rows = out / "metrics.jsonl", whole.left[0]
    path.write_bytes(rows.replace(b"2", b"4") if fault == "changed" else b"")
    assert refused(out, ResultsError) == (
        f"{path} has {fault} in the 165 bytes known to stage one: "
        f"restore the file, or delete {out} to start again"
    )
    path.write_bytes(whole.left[0])
    assert session(out) == whole.end
    shutil.rmtree(out)
    assert session(out) == whole.end
    assert left_by(out) == whole.left


def test_copies_made_by_hand_are_left_alone(tmp_path, whole):
    out = tmp_path / "r"
    with pytest.raises(Interrupted):
        session(out, stop_at=("two", 1))
    stages = out / "stages"
    strays = (stages / "one (copy)", stages / "two" / "steps-backup", stages / "two" / "notes")
    shutil.copytree(stages / "one", strays[0])
    shutil.copytree(stages / "two" / "steps", strays[1])
    strays[2].mkdir()
    note = stages / "two" / "steps" / "step_best"
    shutil.copytree(stages / "two" / "steps" / "step_0000000002", note)
    assert session(out) == whole.end
    assert [path for path in (*strays, note) if not path.is_dir()] == []
    assert (out / "metrics.jsonl").read_bytes() == whole.left[0]


@pytest.mark.long
def test_a_state_of_other_code(tmp_path):
    """Its two checkpoints go one after the other, and the stage starts again."""

    def run(start):
        with open_run(tmp_path, slug="s", config={}, resume=True, stop=lambda: stop[0]) as job:
            step = lambda state, n: (stop.__setitem__(0, 9 * (n == 5)), (state, {}))[1]  # noqa: E731
            return run_stage(
                job, "a", lambda s: (train_stage(s, step, start, steps=9, save_every=3), {})
            ).arrays

    stop = [0]
    with pytest.raises(Interrupted):
        run({"w": np.ones(2)})
    stop = [0]
    for step in (6, 3):
        with pytest.raises(CheckpointError, match=f"step_000000000{step} was saved by other code"):
            run({"v": np.ones(2)})
        shutil.rmtree(tmp_path / "stages" / "a" / "steps" / f"step_000000000{step}")
    with pytest.raises(Interrupted):
        run({"v": np.ones(2)})
    stop = [0]
    assert run({"v": np.ones(2)})["v"].tolist() == [1.0, 1.0]


def test_space_is_freed_and_the_run_goes_on(tmp_path, whole, monkeypatch):
    saved, real = [], checkpoints.write_json

    def full(path, value):
        saved.append(path)
        if len(saved) > 5:
            raise OSError(28, "No space left on device")
        real(path, value)

    monkeypatch.setattr(checkpoints, "write_json", full)
    with pytest.raises(DiskFullError, match="free some space, then repeat the command with --resu"):
        session(tmp_path / "r")
    monkeypatch.undo()
    assert session(tmp_path / "r") == whole.end
    assert left_by(tmp_path / "r") == whole.left


def test_a_folder_of_an_older_version(out, whole):
    path = out / "run.json"
    record = json.loads(path.read_text())
    del record["environments"]
    path.write_text(json.dumps(record))
    message = refused(out, ResultsError)
    assert message.endswith(
        "by an older version, without digests: choose another --out or delete it"
    )
    shutil.rmtree(out)
    assert session(out) == whole.end


def test_what_a_user_put_into_a_folder_stays(tmp_path):
    """A run that saved nothing takes what it wrote with it, and nothing else."""
    mine = [tmp_path / name / "mine.txt" for name in ("data", "stages/one", "tensorboard/one")]
    for seed in range(3):
        with open_run(tmp_path, slug="s", config={"seed": seed}) as job:
            assert [path.name for path in tmp_path.rglob("*.txt")] == ["mine.txt"] * 3 * (seed > 0)
            (tmp_path / "data" / "built").mkdir(parents=True)  # it went, or this would fail
            (tmp_path / "data" / "built" / "rows").write_text(str(seed))
            write_metrics(job.writer, "one", [(0, {"x": 1.0})])
        for path in mine:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("dear")


def test_a_list_of_what_was_left_reaches_no_file_outside(tmp_path):
    out, mine = tmp_path / "out", tmp_path / "mine.txt"
    mine.write_text("dear")
    with open_run(out, slug="s", config={"seed": 0}):
        pass
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "left": ["../mine.txt", str(mine)]}))
    with open_run(out, slug="s", config={"seed": 1}):
        assert mine.read_text() == "dear"


def test_what_a_killed_run_left_is_not_used_under_another_config(tmp_path):
    """Without the list that a run makes as it ends, nobody knows what in the folder is its own."""
    with open_run(tmp_path, slug="s", config={"seed": 0}):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "rows").write_text("0")
    record = json.loads((tmp_path / "run.json").read_text())
    del record["left"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    for _ in range(2):  # a further run that saves nothing does not make them its own
        with (
            pytest.raises(ResultsError, match="seed = 0, this one has 1: choose another --out"),
            open_run(tmp_path, slug="s", config={"seed": 1}),
        ):
            pass
        with open_run(tmp_path, slug="s", config={"seed": 0}):
            assert (tmp_path / "data" / "rows").read_text() == "0"
