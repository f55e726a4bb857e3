"""`python -m experiments new`: a skeleton that runs, and that nobody can leave as it is."""

from pathlib import Path

import pytest
from experiment_checks import faults

from experiments import __main__ as cli
from experiments._skeleton.test import *  # noqa: F403  (what it writes as test_<slug>.py)
from experiments.new import SKELETON


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_it_writes_an_experiment_and_says_what_to_edit(checkout, capsys):
    before = files(checkout)
    assert cli.main(["new", "fresh"]) == 0
    names = ("README.md", "__init__.py", "config.py", "report.py", "run.py")
    written = {*(f"experiments/fresh/{name}" for name in names), "tests/experiments/test_fresh.py"}
    assert files(checkout) - before == written
    lines = capsys.readouterr().out.splitlines()
    assert set(lines[: len(written)]) == written
    assert "  python -m experiments run fresh --quick" in lines
    assert "  1. Replace what is marked TODO: README.md, __init__.py, run.py." in lines
    assert not any(SKELETON.name in (checkout / name).read_text() for name in written)


@pytest.mark.long
def test_it_runs_as_it_is(checkout, capsys):
    cli.main(["new", "fresh"])
    assert cli.main(["run", "fresh", "--quick", "--out", "out"]) == 0
    assert (checkout / "out" / "summary.json").is_file()
    assert (checkout / "out" / "report.html").is_file()
    assert "DPO on every pair" in capsys.readouterr().out


def test_stub_text_is_named_until_it_is_replaced(checkout):
    cli.main(["new", "fresh"])
    found = faults("fresh", checkout)
    stubs = {line.split(":")[0] for line in found if "is still a stub: " in line}
    names = ("README.md", "__init__.py", "run.py")
    assert stubs == {f"experiments/fresh/{name}" for name in names}
    assert [line for line in found if "stub" not in line] == [
        "fresh has no row in the paper index of experiments/README.md"
    ]


def test_a_missing_file_command_or_constant_is_named(checkout):
    cli.main(["new", "fresh"])
    folder = checkout / "experiments" / "fresh"
    (folder / "README.md").write_text("# Fresh\n")
    (folder / "__init__.py").write_text('PAPER = ""\nMINUTES = 1\n')
    (folder / "run.py").write_text("")
    (checkout / "tests" / "experiments" / "test_fresh.py").unlink()
    (checkout / "experiments" / "README.md").write_text("| a | b | c | d | `fresh` | 1 |\n")
    assert faults("fresh", checkout) == [
        "tests/experiments/test_fresh.py is missing",
        "fresh/__init__.py has no PAPER",
        "fresh/__init__.py has no CLAIM",
        "fresh/__init__.py has no GROUP",
        "fresh/README.md has no line `    python -m experiments run fresh`",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "usage: python -m experiments new <slug>"),
        ("fresh --quick", "usage: python -m experiments new <slug>"),
        ("--help", "usage: python -m experiments new <slug>"),
        ("old", "'old' is taken: "),
        ("options", "'options' is taken: "),
        ("tested", "'tested' is taken: "),
        ("all", "'all' is taken: `run all` runs every experiment"),
        ("2fresh", "'2fresh' cannot name an experiment: a slug has lower-case letters"),
        ("Fresh", "'Fresh' cannot name"),
        ("_fresh", "'_fresh' cannot name"),
        ("../fresh", "'../fresh' cannot name"),
        ("class", "'class' cannot name"),
    ],
)
def test_a_slug_that_cannot_be_is_refused_and_nothing_is_written(checkout, capsys, words, message):
    (checkout / "experiments" / "old").mkdir()
    (checkout / "experiments" / "options.py").touch()
    (checkout / "tests" / "experiments" / "test_tested.py").touch()
    before = files(checkout)
    assert cli.main(["new", *words.split()]) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert files(checkout) == before


def test_outside_a_checkout_it_is_refused(checkout, capsys):
    (checkout / "tests" / "experiments").rmdir()
    before = files(checkout)
    assert cli.main(["new", "fresh"]) == 2
    assert "error: new needs a checkout of the repository" in capsys.readouterr().err
    assert files(checkout) == before


def test_the_skeleton_is_no_experiment():
    assert SKELETON.name not in cli.slugs()
