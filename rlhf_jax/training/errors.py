"""Errors that a user can fix: each message is one line with the fault and the remedy."""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """An expected error. Its message is one line, shown without a traceback.

    exit_code: 2 for a fault in the command or its input, 1 for a failure during the run.
    """

    exit_code = 2


class CheckpointError(UserError):
    """A checkpoint is damaged, has another tree, or comes from another run or stage."""

    exit_code = 1


class ResultsError(UserError):
    """A results folder cannot be used for this run."""


class DivergedError(UserError):
    """A loss, a state or the result of a stage is no longer finite."""

    exit_code = 1


class DiskFullError(UserError):
    """The disk of the results folder is full."""

    exit_code = 1


class LostProcess(UserError):
    """Another process of the run ended or does not answer."""

    exit_code = 1


class Interrupted(Exception):
    """The run was stopped by the signal `signum`, and has saved its state."""

    def __init__(self, signum: int, where: str):
        super().__init__(where)
        self.signum = signum


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the error, or one that caused it, says that the disk is full.

    Array storage reports a full disk as a ValueError with the system's message, so the text is
    checked as well as `errno`.
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
    """Turns any report of a full disk into a DiskFullError that names the folder."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(
            f"no space left on the disk of {folder}: free some space, then repeat the command "
            "with --resume; earlier checkpoints and results are intact"
        ) from error


@contextmanager
def reading_input() -> Generator[None, None, None]:
    """Reading files and texts of the user: a ValueError inside is reported as the user's error.

    The library's readers raise ValueError with a one-line message that names the row. Inside this
    block it becomes a UserError, shown without a traceback; so does a file that cannot be opened.
    """
    try:
        yield
    except (
        *(FileNotFoundError, PermissionError),
        *(IsADirectoryError, NotADirectoryError),
    ) as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(str(error)) from error
