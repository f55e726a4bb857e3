"""Errors a user can act on: each message is one line that names what is wrong and the fix."""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """An expected error. Its message is one line, shown without a traceback.

    exit_code: 2 where the command or its input is at fault, 1 where something went wrong.
    """

    exit_code = 2


class CheckpointError(UserError):
    """A checkpoint is damaged, or holds another tree or comes from elsewhere than asked for."""

    exit_code = 1


class ResultsError(UserError):
    """A results folder cannot be used for this run."""


class DivergedError(UserError):
    """A loss, a state or the result of a stage is no longer finite."""

    exit_code = 1


class DiskFullError(UserError):
    """There is no space left where results are written."""

    exit_code = 1


class Interrupted(Exception):
    """The run was asked to stop, and has saved. `signum` is the signal that asked."""

    def __init__(self, signum: int, where: str):
        super().__init__(where)
        self.signum = signum


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the error, or one that caused it, says that the disk is full.

    Array storage reports a full disk as a ValueError with the system's words in it, so the text
    is read as well as `errno`.
    """
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "no space left" in str(error).lower() or "quota exceeded" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def naming_full_disk(folder: Path) -> Generator[None, None, None]:
    """Turns a full disk, however reported, into a DiskFullError that names the folder."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(
            f"no space left on the disk of {folder}: free some space, then repeat the command "
            "with --resume; what was saved before is intact"
        ) from error


@contextmanager
def reading_input() -> Generator[None, None, None]:
    """Around reading what the user gave (files, texts): a ValueError there is theirs to mend.

    The library's readers raise ValueError with a one-line message that names the row; inside this
    block it becomes a UserError, shown without a traceback. So does a file that cannot be opened.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(str(error)) from error
