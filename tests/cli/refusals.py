"""Commands that are refused: one line, exit code 2, and every file as it was."""

from rlhf_jax.cli import main


def refused(words, message, capsys):
    """The command ends with one line that has the message."""
    assert main([str(word) for word in words]) == 2
    found = capsys.readouterr().err
    assert found.startswith("error: ")
    assert message in found
    assert found.count("\n") == 1


def files_below(folder):
    """Path -> content, without compiled Python."""
    paths = (path for path in folder.rglob("*") if path.suffix != ".pyc" and path.is_file())
    return {path: path.read_bytes() for path in paths}
