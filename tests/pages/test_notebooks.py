"""Notebooks run from top to bottom without a warning, and are committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).parents[2] / "notebooks"
STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260k"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
STRICT = "import warnings\n\nwarnings.simplefilter('error')"


def read(path):
    return nbformat.read(path, as_version=4)


def execute(notebook, folder):
    """Runs it in a fresh kernel in this folder, every warning an error, and returns it."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources)
    return client.execute()


@pytest.fixture
def kernel_folders(tmp_path, monkeypatch):
    """Kernels keep what they write, and what they compile, away from the user's own folders."""
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_bare(path):
    """No outputs, no counts, no machine's kernel: what is in git is what was written."""
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, kernel_folders, monkeypatch):
    monkeypatch.setenv("STORIES260K", str(STORIES))
    if path.stem.startswith("stories") and not STORIES.is_dir():
        pytest.skip(f"needs {STORIES}")
    folder = tmp_path / "work"
    folder.mkdir()
    notebook = execute(read(path), folder)
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert [out.text for out in outputs if out.get("name") == "stderr"] == []
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_an_error_and_a_warning_in_a_notebook_are_seen(tmp_path, kernel_folders):
    for source, message in (("1 / 0", "ZeroDivisionError"), ("warnings.warn('old')", "old")):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        with pytest.raises(CellExecutionError, match=message):
            execute(notebook, tmp_path)
