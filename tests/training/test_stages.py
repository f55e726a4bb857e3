"""Runs in stages, and the folders they may and may not use."""

import json
import math
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.training import (
    open_run,
    read_metrics,
    reading_input,
    run_seconds,
    run_stage,
    run_stages,
    train_stage,
)
from rlhf_jax.training.environment import environment
from rlhf_jax.training.errors import (
    CheckpointError,
    DivergedError,
    Interrupted,
    ResultsError,
    UserError,
)
from rlhf_jax.training.folders import differences
from rlhf_jax.training.runs import check_stop


@dataclass(frozen=True, kw_only=True)
class PPO:
    beta: float = 0.05
    layers: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Config:
    ppo: PPO = field(default_factory=PPO)
    data: Path | None = None


def work(stage):
    return {"x": jnp.ones(3)}, {"words": ("a", 1)}


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def do(out, config, **options):
    with open_run(out, slug="shop", config=config, **options) as run:
        return run_stage(run, "sft", work), run_seconds(run)


def test_a_finished_stage_is_loaded_with_the_same_leaves(tmp_path):
    first, seconds = do(tmp_path / "r", Config())
    again, total = do(tmp_path / "r", Config(), resume=True)
    assert type(first.arrays["x"]) is type(again.arrays["x"]) is np.ndarray
    assert first.info == again.info == {"words": ["a", 1]}
    assert first.seconds == again.seconds
    assert min(seconds, total) >= first.seconds


def test_another_config_is_refused_and_nothing_changes(tmp_path):
    do(tmp_path / "r", Config())
    before = snapshot(tmp_path)
    other = Config(ppo=PPO(beta=0.1, layers=(1, 3)))
    for resume in (False, True):
        with pytest.raises(
            ResultsError,
            match=r"r holds a run with ppo\.beta = 0\.05, ppo\.layers = \[1, 2\], this one has "
            r"0\.1, \[1, 3\]: choose another --out or delete it",
        ):
            do(tmp_path / "r", other, resume=resume)
    with pytest.raises(ResultsError, match="add --resume to continue it"):
        do(tmp_path / "r", Config())
    with (
        pytest.raises(ResultsError, match="holds a run of shop, not maze"),
        open_run(tmp_path / "r", slug="maze", config=Config()),
    ):
        pass
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("slug", ["maze", "shop"])
def test_a_refused_folder_may_be_deleted_or_another_chosen(tmp_path, slug):
    do(tmp_path / "r", Config())

    def other(out):
        config = Config() if slug == "maze" else Config(ppo=PPO(beta=0.1))
        with open_run(out, slug=slug, config=config) as run:
            return run_stage(run, "sft", work).info

    with pytest.raises(ResultsError, match="choose another --out or delete it"):
        other(tmp_path / "r")
    assert other(tmp_path / "s") == {"words": ["a", 1]}
    shutil.rmtree(tmp_path / "r")
    assert other(tmp_path / "r") == {"words": ["a", 1]}


def test_two_stages_need_two_names(tmp_path):
    with open_run(tmp_path / "r", slug="shop", config=Config()) as run:
        run_stage(run, "sft", work)
        for name in ("shop/head", "", ".."):
            with pytest.raises(ValueError, match="needs a name without slashes"):
                run_stage(run, name, lambda stage: ({}, {}))
        with pytest.raises(ValueError, match="stage sft has been done in this run: give this one"):
            run_stage(run, "sft", work)


def test_folders_that_are_no_results(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(ResultsError, match="is not empty and holds no run"):
        do(tmp_path / "letters", Config())
    with pytest.raises(ResultsError, match="is a file"):
        do(tmp_path / "letters" / "a.txt", Config())
    do(tmp_path / "r", Config())
    (tmp_path / "r" / "run.json").write_text("{")
    with pytest.raises(ResultsError, match=r"run\.json cannot be read"):
        do(tmp_path / "r", Config(), resume=True)
    shutil.rmtree(tmp_path / "r")
    do(tmp_path / "r", Config(), resume=True)


def test_a_run_that_saved_nothing_gives_way(tmp_path):
    with open_run(tmp_path / "r", slug="shop", config=Config(data=Path("missing"))):
        pass
    do(tmp_path / "r", Config(data=Path("found")))
    assert json.loads((tmp_path / "r" / "run.json").read_text())["config"]["data"] == "found"


def test_the_data_of_a_run_that_saved_nothing_goes_with_it(tmp_path):
    with open_run(tmp_path, slug="toy", config=Config()):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "records").write_text("of the first config")
    with open_run(tmp_path, slug="toy", config=Config(ppo=PPO(beta=0.1))):
        assert not (tmp_path / "data").exists()


def test_the_data_of_a_run_that_saved_something_stays(tmp_path):
    with open_run(tmp_path, slug="toy", config=Config()) as run:
        (tmp_path / "data").mkdir()
        run_stage(run, "one", work)
    with open_run(tmp_path, slug="toy", config=Config(), resume=True):
        assert (tmp_path / "data").is_dir()


def test_other_versions_are_mentioned(tmp_path, capsys):
    do(tmp_path / "r", Config(), progress=True)
    assert re.fullmatch(r"sft: \d+\.\d s\n", capsys.readouterr().out)
    path = tmp_path / "r" / "run.json"
    record = json.loads(path.read_text())
    record["environments"][0]["versions"]["jax"] = "0.1"
    path.write_text(json.dumps(record))
    for _ in range(2):
        do(tmp_path / "r", Config(), resume=True, progress=True)
        assert "note: started with jax 0.1, continuing with " in capsys.readouterr().out
        assert len(json.loads(path.read_text())["environments"]) == 2
    record["environments"][0]["versions"]["jax"] = "\x1b[2J"
    path.write_text(json.dumps(record))
    do(tmp_path / "r", Config(), resume=True, progress=True)
    assert "\x1b" not in (shown := capsys.readouterr().out)
    assert r"started with jax \x1b[2J, continuing" in shown
    for nothing in ([], {}, None):
        path.write_text(json.dumps({**record, "environments": nothing}))
        with pytest.raises(ResultsError, match="without digests"):
            do(tmp_path / "r", Config(), resume=True)


def test_an_environment_is_sources_devices_and_precision(tmp_path):
    def changed(now):
        return [name for name, _, _ in differences(before, now)]

    (tmp_path / "a.py").write_text("x = 1")
    before = environment([tmp_path])
    assert before["devices"] == f"{jax.device_count()} x cpu"
    assert changed(environment([tmp_path])) == []
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        assert changed(environment([tmp_path])) == ["x64", "matmul_precision"]
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert changed(environment([tmp_path])) == [f"sources.{tmp_path.name}"]


def test_two_runs_do_not_share_a_folder(tmp_path):
    with (
        open_run(tmp_path / "r", slug="shop", config=Config()),
        pytest.raises(ResultsError, match="is in use by another run"),
        open_run(tmp_path / "r", slug="shop", config=Config()),
    ):
        pass


def test_a_checkpoint_without_its_json_does_not_make_the_run_start_again(tmp_path):
    do(tmp_path / "r", Config())
    (tmp_path / "r" / "stages" / "sft" / "result" / "checkpoint.json").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint\.json"):
        do(tmp_path / "r", Config(), resume=True)


@pytest.mark.long
def test_damaged_newest_checkpoint_then_the_one_before(tmp_path):
    """Deleting the damaged folder, as the message says, resumes from the older one."""

    def step_fn(state, step):
        if step == 7 and trap:
            raise Interrupted(15, "here")
        return state + step, {"loss": state}

    def stage(name):
        with open_run(tmp_path / name, slug="shop", config=Config(), resume=True) as run:
            start, like = jnp.zeros(()), jnp.zeros(())
            return run_stage(
                run,
                "sft",
                lambda s: (train_stage(s, step_fn, start, steps=9, save_every=3), {}),
                like=like,
            )

    trap = True
    with pytest.raises(Interrupted):
        stage("a")
    newest = tmp_path / "a" / "stages" / "sft" / "steps" / "step_0000000006"
    (newest / "checkpoint.json").write_text("{")
    with pytest.raises(CheckpointError, match="step_0000000006 is damaged"):
        stage("a")
    shutil.rmtree(newest)
    trap = False
    resumed, whole = stage("a"), stage("b")
    assert float(resumed.arrays) == float(whole.arrays) == 36
    rows = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in "ab"]
    assert rows[0] == rows[1]
    assert not (tmp_path / "a" / "stages" / "sft" / "steps").exists()


def test_two_loops_of_a_stage_need_two_names(tmp_path):
    def loops(stage):
        def step_fn(state, step):
            return state + 1, {"loss": state}

        state = train_stage(stage, step_fn, jnp.zeros(()), steps=2)
        state = train_stage(stage, step_fn, state, steps=2, part="more")
        with pytest.raises(ValueError, match="has a loop 'more' already"):
            train_stage(stage, step_fn, state, steps=2, part="more")
        return {"state": state}, {}

    with open_run(tmp_path / "r", slug="shop", config=Config()) as run:
        assert float(run_stage(run, "sft", loops).arrays["state"]) == 4
    rows = read_metrics(tmp_path / "r")
    assert [row["stage"] for row in rows] == ["sft", "sft", "sft/more", "sft/more"]


def test_a_stop_is_seen_between_stages(tmp_path):
    with open_run(tmp_path / "r", slug="shop", config=Config(), stop=lambda: 2) as run:
        with pytest.raises(Interrupted, match="before sft"):
            run_stage(run, "sft", work)
        with pytest.raises(Interrupted, match="evaluation"):
            check_stop(run, "evaluation")


def test_a_stop_within_the_last_stage_is_seen_after_it(tmp_path):
    asked = []

    def last(stage):
        asked.append(15)
        return work(stage)

    stop = lambda: asked[0] if asked else 0  # noqa: E731
    with (
        open_run(tmp_path / "r", slug="shop", config=Config(), stop=stop) as run,
        pytest.raises(Interrupted, match="after sft"),
    ):
        run_stage(run, "sft", last)
    assert do(tmp_path / "r", Config(), resume=True)[0].info == {"words": ["a", 1]}


def test_a_result_with_nan_does_not_finish_its_stage(tmp_path):
    """An infinity does: it may be a log-probability."""

    def stage_of(value, out):
        with open_run(out, slug="shop", config=Config(), resume=True) as run:
            found = {"x": np.array([1.0, value]), "n": jnp.arange(2)}
            return run_stage(run, "sft", lambda stage: (found, {"mean": [value]})).arrays

    message = (
        r"^sft: its result\['arrays'\]\['x'\] holds nan, so the stage is not finished\. .* or "
    )
    for _ in range(2):
        with pytest.raises(DivergedError, match=message + "fix the code and resume$"):
            stage_of(np.nan, tmp_path / "r")
    assert stage_of(-np.inf, tmp_path / "r")["x"][1] == -np.inf  # the code mended
    with (
        open_run(tmp_path / "s", slug="shop", config=Config()) as run,
        pytest.raises(DivergedError, match=r"result\['info'\]\['mean'\]\[0\] holds nan"),
    ):
        run_stage(run, "sft", lambda stage: ({}, {"words": "a", "mean": [math.nan]}))


def test_input_errors_become_one_line():
    with pytest.raises(UserError, match=r"^row 3: no 'chosen'$"), reading_input():
        raise ValueError("row 3: no 'chosen'")
    with (
        pytest.raises(UserError, match=r"cannot read nothing\.jsonl: No such file"),
        reading_input(),
    ):
        Path("nothing.jsonl").read_text()


def test_numpy_scalars_of_a_stage_come_back_as_they_were(tmp_path):
    """np.float64 is a Python float, too, and no less a NumPy number."""
    kinds = {"a": np.float64(0.5), "b": np.float32(0.25), "c": 1.5, "d": np.int64(3)}
    with open_run(tmp_path, slug="s", config=Config()) as run:
        found = run_stage(run, "one", lambda stage: (kinds, {})).arrays
    assert {name: float(value) for name, value in found.items()} == {
        name: float(value) for name, value in kinds.items()
    }
    assert np.asarray(found["a"]).dtype == np.float64
    assert isinstance(found["c"], float)


def test_stages_without_arguments_in_their_precision(tmp_path):
    """1/3 in float32 is 1/3 + 1e-8; a second session does no work."""
    done = []

    def work():
        done.append(1)
        return {"x": jnp.ones(2) / 3}

    for _ in range(2):
        with open_run(tmp_path / "out", slug="s", config=Config(), resume=True) as run:
            double = run_stages(run, {"one": work, "two": work}, x64=True)
            single = run_stages(run, {"three": work})
        assert list(double) == ["one", "two"]
        assert {x["x"].dtype for x in double.values()} == {np.dtype("float64")}
        assert single["three"]["x"].dtype == np.float32
        assert abs(double["two"]["x"][0] - 1 / 3) < 1e-15
    assert len(done) == 3
