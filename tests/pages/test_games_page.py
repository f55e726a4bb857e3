"""docs/games.md: its code runs, what it names is there, its figures are those that are copied."""

import importlib
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import COLOURS, Series, save_figure

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "games.md").read_text()
make_games = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "make_games.py")))
# Column of a table on the page -> module whose functions it names.
COLUMNS = {
    "`algos.games`": "algos.games",
    "loss (`losses.games`)": "losses.games",
    "round": "algos.selfplay",
    "function": "",
    "solver": "",
}


def rows():
    """Every row of the page's tables: header -> cell."""
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        header, _, *cells = [[cell.strip() for cell in line] for line in lines]
        yield from (dict(zip(header, row, strict=True)) for row in cells)


@pytest.mark.long
def test_the_code_runs_and_shows_what_it_says(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(block, names)
    np.testing.assert_allclose(names["nash"], 1 / 3)
    assert names["values"].shape == (8, 30)
    assert float(jnp.max(names["values"][:, -1])) < 1e-4
    assert names["study"].rate.high < np.log(1 - names["eta"] * names["beta"])
    assert "crossfit_gap" in capsys.readouterr().out
    # The policy trained on samples is near the regularised Nash policy of its game.
    star = names["regularised_nash"](names["prefs"], names["ref"], beta=0.3)
    trained = np.asarray(names["jax"].nn.softmax(names["state"].train.params))[0]
    assert np.abs(trained - np.exp(star)).max() < 0.05


def test_every_function_in_the_tables_is_there():
    """A name without a module is in that of the column, or of the name before it in its cell."""
    seen = 0
    for row, column in (
        (cells, each) for cells in rows() for each in COLUMNS.keys() & cells.keys()
    ):
        place = COLUMNS[column]
        for name in re.findall(r"`([\w.]+)`", row[column]):
            place = name.rpartition(".")[0] or place
            module = importlib.import_module(f"rlhf_jax.{place}")
            assert callable(getattr(module, name.rpartition(".")[2])), name
            seen += 1
    assert seen > 30


def test_every_method_of_games_and_of_answers_is_in_a_table():
    from rlhf_jax.algos import games, selfplay

    named = set(re.findall(r"`(\w+)`", PAGE))
    rules = {
        name
        for name, member in vars(games).items()
        if callable(member) and member.__module__ == games.methods.__name__ and name != "Method"
    }
    assert rules <= named
    assert {name for name, m in vars(selfplay).items() if callable(m) and name.islower()} <= named


def test_experiments_that_are_named_exist():
    named = set(re.findall(r"experiments run (\w+)", PAGE))
    for row in rows():
        named |= set(re.findall(r"`(\w+)`", row.get("experiment", "")))
    for slug in named:
        assert (ROOT / "experiments" / slug / "run.py").exists(), slug


def test_figures_are_those_that_are_copied():
    shown = re.findall(r"!\[[^\]]+\]\(games/(\w+)\.png\)", PAGE)
    assert sorted(shown) == sorted(make_games.FIGURES)


def test_the_page_is_short():
    assert len(PAGE.splitlines()) <= 250


@pytest.mark.long
def test_figures_are_copied_small_in_their_colours(tmp_path):
    results, folder = tmp_path / "results", tmp_path / "games"
    lines = {f"{i}": Series(range(5), [i + x for x in range(5)]) for i in range(len(COLOURS))}
    figure = panels([Panel("title", "x", "y", lines)])
    for place in make_games.FIGURES.values():
        save_figure(figure, results / place)
    paths = make_games.copy_figures(results, folder)
    assert sorted(path.stem for path in paths) == sorted(make_games.FIGURES)
    source = results / next(iter(make_games.FIGURES.values()))
    assert paths[0].stat().st_size < source.stat().st_size
    before, after = (
        np.asarray(Image.open(path).convert("RGB"), int) for path in (source, paths[0])
    )
    assert before.shape == after.shape
    for colour in COLOURS:
        where = np.all(before == [int(colour[i : i + 2], 16) for i in (1, 3, 5)], axis=-1)
        assert where.sum() > 100
        assert np.abs(after[where] - before[where]).max() <= 3


def test_a_figure_too_large_for_a_page_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (500, 500, 3), np.uint8)
    for place in make_games.FIGURES.values():
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(path)
    with pytest.raises(ValueError, match=r"bytes, more than 150000"):
        make_games.copy_figures(tmp_path, tmp_path / "games")
    assert not (tmp_path / "games").exists()


def test_a_missing_figure_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="last_iterate"):
        make_games.copy_figures(tmp_path, tmp_path / "games")
    assert not (tmp_path / "games").exists()
