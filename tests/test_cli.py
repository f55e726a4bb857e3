"""`python -m experiments`: exit codes, one-line errors, nothing overwritten."""

import errno
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import experiments
from experiments import __main__ as cli

TOYS = Path(__file__).parent / "toy_experiments"
TOY = {
    "slug": "toy",
    "paper": "A toy, 2026",
    "claim": "the weights stay small",
    "minutes": 0.1,
    "group": "games",
    "needs": "",
}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Only the toy experiment exists, and results go to an empty folder."""
    monkeypatch.setattr(experiments, "__path__", [str(TOYS)])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("experiments.toy")]:
        del sys.modules[name]
        importlib.invalidate_caches()


@pytest.fixture
def run(capsys):
    def call(line):
        code = cli.main(line.split())
        out, err = capsys.readouterr()
        return code, out, err

    return call


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_list(run):
    code, out, _ = run("list")
    assert code == 0
    assert " ".join(out.split()) == (
        "Preference games toy (0.1 min) A toy, 2026 the weights stay small"
    )
    code, out, _ = run("list --json")
    assert json.loads(out) == [TOY]


def test_list_is_light():
    code = (
        "import sys; from experiments.__main__ import main; main(['list']); "
        "print([name for name in ('jax', 'numpy', 'tyro', 'rich') if name in sys.modules])"
    )
    root = str(Path(__file__).parents[1])
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rum toy", "unknown command 'rum': did you mean run?"),
        ("list --jsn", "list has no option '--jsn': did you mean --json?"),
        ("run", "run needs an experiment: one of toy, all"),
        ("run toi", "unknown experiment 'toi': did you mean toy?"),
        ("run toy --adam.rat 1", "unknown option --adam.rat: did you mean --adam.rate?"),
        ("run toy --resum", "unknown option --resum: did you mean --resume?"),
        ("run toy --adam.rate=-1", "adam.rate must be > 0, got -1.0"),
        ("run toy --adam.rate -1", "adam.rate must be > 0, got -1.0"),
        ("run toy --steps 0", "steps must be >= 1, got 0"),
        ("run toy --adam.rate nan", "adam.rate must be finite in float32, got nan"),
        ("run toy --below inf", "below must be finite in float32, got inf"),
        (
            "run toy --steps 2147483648",
            "steps must be in [-2147483648, 2147483648), got 2147483648",
        ),
        ("run toy --seed 4294967296", "seed must be in [0, 4294967296), got 4294967296"),
        (f"run toy --seed {2**64}", f"seed must be in [0, 4294967296), got {2**64}"),
        ("run toy --seed -1", "seed must be in [0, 4294967296), got -1"),
        ("run toy --size=", "--size needs a value"),
        ("run toy --out=", "--out needs a value"),
        ("run toy --out --resume", "--out needs a value"),
        ("run toy --quick=1", "--quick takes no value, got --quick=1"),
        (
            "run toy --a\x1b[31m",
            r"unknown option --a\x1b[31m: choose from --adam.rate, "
            "--steps, --nap, --below, --crash, --seed, --quick, --size, --out, --resume",
        ),
        ("run toy --steps few", "--steps: invalid literal for int() with base 10: 'few'"),
        ("run toy --steps", "Missing value for argument '--steps'. Expected 1 values."),
        ("run toy spare", "unexpected argument spare"),
        ("run toy --out", "--out needs a value"),
        ("run toy --size qick", "toy has no size 'qick': did you mean quick?"),
        ("run all --quick --steps 3", "run all takes --quick, --size, --out and --resume only"),
        ("report --ou x", "report has no option '--ou': did you mean --out?"),
        ("report", "results does not exist: run an experiment first"),
    ],
)
def test_bad_arguments_are_one_line_and_code_2(run, workplace, line, message):
    assert run(line) == (2, "", f"error: {message}\n")
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "fault"),
    [
        ("runs[1]", "runs[1]' holds '[', which array storage cannot have in a path"),
        ("a*", "a*' holds '*', which"),
        ("back\\slash", "back\\\\slash' holds '\\\\', which"),
        ("gs://bucket/run", "gs:/bucket/run looks like a URL"),
        ("new\nline", "new\\nline' holds '\\n', which"),
        ("n\0l", "n\\x00l' holds '\\x00', which"),
        ("\udcff", "\\udcff' holds '\\udcff', which"),
        ("file", "file is a file"),
        ("file/below", "file/below cannot hold results (file/below: Not a directory)"),
        ("dangling", "dangling is a link to nothing"),
        ("dangling/below", "dangling/below cannot hold results (dangling: File exists)"),
        ("x" * 300, "xxxx cannot hold results (xxxx"),
        ("/".join(["x" * 200] * 20), "... has more than 3500 bytes"),
        ("locked", "locked cannot hold results (locked/.lock: Is a directory)"),
        ("/proc/run", "/proc/run cannot hold results (/proc/run: No such file or directory)"),
    ],
)
def test_a_folder_that_cannot_hold_results_is_refused_before_the_run(
    workplace, capsys, monkeypatch, out, fault
):
    (workplace / "file").write_text("dear")
    (workplace / "dangling").symlink_to("nowhere")
    (workplace / "locked" / ".lock").mkdir(parents=True)
    before = sorted(workplace.rglob("*"))
    monkeypatch.setattr("rlhf_jax.training.stages._work", lambda *_: pytest.fail("trained"))
    assert cli.main(["run", "toy", "--out", out]) == 2
    err = capsys.readouterr().err
    assert fault in err
    assert (err.startswith("error: "), err.count("\n")) == (True, 1)
    assert sorted(workplace.rglob("*")) == before


def test_a_read_only_disk_is_refused_before_the_run(run, monkeypatch):
    def refuse(path, *args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = "error: far cannot hold results (far: Read-only file system): choose another --out\n"
    assert run("run toy --out far") == (2, "", message)


def test_a_folder_named_like_a_cloud_is_a_folder(run, workplace):
    assert run("run toy --steps 1 --out gs:x")[0] == 0
    assert list((workplace / "gs:x" / "tensorboard" / "one").iterdir())


def test_swapped_letters_are_nearest(run, monkeypatch):
    monkeypatch.setattr(cli, "slugs", lambda: ["shop", "spo"])
    assert run("run shpo")[2] == "error: unknown experiment 'shpo': did you mean shop?\n"
    assert run("run sop")[2] == "error: unknown experiment 'sop': did you mean spo?\n"


def test_a_gallery_that_cannot_be_written_is_one_line(run, workplace):
    (workplace / "results" / "index.html").mkdir(parents=True)
    assert run("report") == (2, "", "error: cannot write results/index.html: Is a directory\n")
    (workplace / "file").write_text("dear")
    assert run("report --out file") == (2, "", "error: file is a file\n")


@pytest.mark.long
def test_a_run_and_what_it_leaves(run, workplace):
    code, out, _ = run("run toy --quick --adam.rate 0.1")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("one: 10 steps, loss ")
    assert "│ toy " in lines[-2]  # the experiment's own table comes last
    folder = workplace / "results" / "toy-quick"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["slug"] == "toy"
    assert summary["config"]["adam"] == {"rate": 0.1}
    assert summary["claims"][0] | {"value": 0} == {
        "statement": "sum of weights", "value": 0, "op": "<", "threshold": 1e9, "kind": "ours",
        "source": "an option", "interval": None, "baseline": None, "verdict": "holds",
    }  # fmt: skip
    assert {"slug", "paper", "seconds", "versions", "config", "claims"} <= summary.keys()
    assert summary["versions"]["python"].count(".") == 2
    assert summary["command"] == "python -m experiments run toy --quick --adam.rate 0.1"
    before = snapshot(folder)

    code, _, err = run("run toy --quick --adam.rate 0.1")
    assert code == 2
    assert "holds this run, finished: add --resume to show its results again" in err
    code, _, err = run("run toy --quick --adam.rate 0.2 --resume")
    assert code == 2
    assert "results/toy-quick holds a run with adam.rate = 0.1, this one has 0.2" in err
    assert snapshot(folder) == before

    code, out, _ = run("run toy --quick --adam.rate 0.1 --resume")
    assert code == 0
    assert "one: done before" in out
    assert (folder / "metrics.jsonl").read_bytes() == before[folder / "metrics.jsonl"]

    assert run("report")[:2] == (0, "results/index.html\n")
    assert "toy-quick" in (workplace / "results" / "index.html").read_text()


@pytest.mark.long
def test_a_failing_claim_is_code_3_and_all_goes_on(run, workplace):
    code, out, _ = run("run toy --steps 3 --below -1e9")
    assert code == 3
    assert "FAILS" in out
    (workplace / "results" / "toy-quick").mkdir()
    (workplace / "results" / "toy-quick" / "letter").write_text("dear")
    code, out, err = run("run all --quick")
    assert code == 2
    assert "is not empty and holds no run" in err
    assert out.splitlines()[-1] == "toy: exit 2"
    assert run("run all --quick --out elsewhere")[0] == 0
    assert (workplace / "elsewhere" / "toy" / "summary.json").exists()


def test_all_skips_what_needs_an_option(run, workplace, monkeypatch):
    needy = workplace / "more" / "toy_needy"
    needy.mkdir(parents=True)
    facts = 'PAPER = "P"\nCLAIM = "C"\nMINUTES = 1\nGROUP = "odd"\nNEEDS = "--data FILE"\n'
    (needy / "__init__.py").write_text(facts)
    (needy / "config.py").write_text("")
    monkeypatch.setattr(experiments, "__path__", [str(TOYS), str(needy.parent)])
    _, out, _ = run("list")
    assert "\nodd\n  toy_needy  (1 min)  needs --data FILE\n" in out
    entry = {"slug": "toy_needy", "paper": "P", "claim": "C", "minutes": 1, "group": "odd"}
    entry["needs"] = "--data FILE"
    assert json.loads(run("list --json")[1]) == [TOY, entry]
    code, out, err = run("run all --quick")
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if "toy_needy" in line] == [
        "== toy_needy: skipped, it needs --data FILE"
    ]
    assert out.splitlines()[-2:] == ["toy: exit 0", "all results: results/index.html"]
    assert "toy-quick" in (workplace / "results" / "index.html").read_text()
    assert not (workplace / "results" / "toy_needy-quick").exists()


def test_the_worst_code_of_all(run, monkeypatch):
    codes = {"a": 3, "b": 1, "c": 2, "d": 0}
    monkeypatch.setattr(cli, "slugs", lambda: list(codes))
    monkeypatch.setattr(cli, "needs", lambda slug: "")
    monkeypatch.setattr(cli, "run_one", lambda request: codes[request.slug])
    assert run("run all --quick")[0] == 1
    codes["b"] = 0
    assert run("run all --quick")[0] == 2
    codes["c"] = 143
    assert run("run all --quick")[0] == 143


def test_a_crash_keeps_its_traceback(run):
    with pytest.raises(RuntimeError, match="a bug"):
        run("run toy --crash bug")


def test_a_loss_that_is_not_a_number(run):
    code, _, err = run("run toy --crash nan")
    assert code == 1
    assert err.startswith("error: one: loss is nan at step 6; ")
    assert err.count("\n") == 1


def test_a_last_step_that_diverges_is_not_a_finished_stage(run, workplace):
    """Its loss was measured before it, and is finite. What the message says is done."""
    code, _, err = run("run toy --steps 1 --crash overflow")
    assert code == 1
    assert re.fullmatch(
        r"error: one: state\[0\]\['w'\] holds -?(inf|nan) after step 1; nothing is saved\. "
        "Lower the learning rate or clip the gradients, and choose another --out\n",
        err,
    )
    assert not list((workplace / "results" / "toy" / "stages").rglob("result"))
    assert run("run toy --steps 1 --out another")[0] == 0


def test_a_damaged_checkpoint(run, workplace):
    assert run("run toy --steps 3")[0] == 0
    folder = workplace / "results" / "toy" / "stages" / "one" / "result"
    (folder / "checkpoint.json").write_text("{")
    code, _, err = run("run toy --steps 3 --resume")
    assert code == 1
    assert err.startswith("error: results/toy/stages/one/result is damaged")
    assert err.count("\n") == 1


def test_going_on_under_changed_code_is_noted(run, workplace, monkeypatch):
    code = shutil.copytree(TOYS, workplace / "code")
    monkeypatch.setattr(experiments, "__path__", [str(code)])
    assert "note: " not in run("run toy --steps 3")[1]
    path = code / "toy" / "run.py"
    path.write_text(path.read_text().replace("noise) ** 2", "noise) ** 4"))
    shutil.rmtree(workplace / "results" / "toy" / "stages" / "kept")
    status, out, _ = run("run toy --steps 3 --resume")
    assert status == 0
    (note,) = [line for line in out.splitlines() if line.startswith("note: ")]
    digest = "[0-9a-f]{16}"
    assert re.fullmatch(
        f"note: started with sources of toy {digest}, continuing with {digest}: numbers may differ",
        note,
    )
    summary = json.loads((workplace / "results" / "toy" / "summary.json").read_text())
    began, now = (one["sources"] for one in summary["environments"])
    assert began["toy"] != now["toy"]
    assert began["rlhf_jax"] == now["rlhf_jax"]


def test_a_run_stopped_at_once_ends_with_the_code_of_its_signal(run, monkeypatch):
    for given, code in (((), 130), ((signal.SIGINT,), 130), ((signal.SIGTERM,), 143)):

        def stopped(*args, given=given):
            raise KeyboardInterrupt(*given)

        monkeypatch.setattr(cli, "execute", stopped)
        status, _, err = run("run toy")
        assert status == code
        assert err == "\nstopped without saving. To go on: python -m experiments run toy --resume\n"


# The writes that were still under way answer to an event loop that has been closed.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_one_line(run, workplace):
    disk = workplace / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system")
    try:
        code, _, err = run("run toy --out disk/run")
        assert code == 1
        assert err.startswith("error: no space left on the disk of disk/run")
        assert "--resume" in err
        assert err.count("\n") == 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_elsewhere_in_the_run(run, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlhf_jax.reports.claims.write_text", full)
    code, _, err = run("run toy --steps 3")
    assert code == 1
    assert err.startswith("error: no space left on the disk of results/toy: free some space, then")
    assert err.count("\n") == 1


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", "toy", "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "--adam.rate FLOAT" in out
    assert "default, quick" in out
    assert cli.main(["--help"]) == 0
    assert "Exit codes" in capsys.readouterr().out


@pytest.mark.slow
def test_a_stop_at_once_does_not_wait_for_compiled_code():
    """`sys.exit` would: JAX waits for what it has dispatched, here hours of it."""
    program = """
import jax, jax.numpy as jnp
from experiments.__main__ import leave
hours = jax.jit(lambda x: jax.lax.fori_loop(0, 10**9, lambda i, a: jnp.tanh(a @ a), x))
hours(hours(jnp.ones((300, 300))))
leave(143)
"""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, timeout=120, check=False)
    assert done.returncode == 143
