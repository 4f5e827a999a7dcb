"""The one kind of error that is the user's to repair: shown as its sentence, without a traceback."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

MOST, LONGEST = 10, 60  # names in a message, and characters of one
# where a file may not grow or be written: what the system says, and torch, which does not pass it on
UNWRITABLE = ("No space left on device", "Disk quota exceeded", "File too large", "Read-only file system")
UNWRITABLE += ("inline_container.cc",)
CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
WAY_OUT = "free space there, or lift what limits it (a quota, ulimit -f, a read-only mount, permissions)"


class UserError(Exception):
    """What is wrong, where (file, line or parameter), and what to do."""

    def _render_traceback_(self) -> list[str]:  # what IPython shows below the cell
        return [str(self)]


def one_line(error: object, longest: int = 300) -> str:
    """Another library's error, or a text, in one line that can be printed."""
    said = " ".join(str(error).split()) or type(error).__name__
    return (said if said.isprintable() else repr(said)[1:-1])[:longest]


def named(names: Iterable[object]) -> str:
    """Names from a file, sorted, as a message may hold them: the first ten, short, and none with a line or a colour of its own."""
    told = sorted(name if name.isprintable() else repr(name)[1:-1] for name in map(str, names))
    more = [f"{len(told) - MOST:,} more"] if len(told) > MOST else []
    return ", ".join([*(name[:LONGEST] for name in told[:MOST]), *more])


def no_room(path: object, error: object) -> UserError | None:
    """What to say where this error means that there is no room for a file, or no right to write it; None where it means something else."""
    known = isinstance(error, OSError) and error.errno in CODES
    if not known and not any(text in str(error) for text in UNWRITABLE):
        return None
    return UserError(
        f"{path} cannot be written ({getattr(error, 'strerror', None) or error}): {WAY_OUT}; the same command then goes on from here"
    )


@contextmanager
def writing(path: object) -> Iterator[None]:
    """Around what writes a file or a folder. Raises UserError naming it where there is no room."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if said := no_room(path, error):
            raise said from None
        raise


def for_user(error: Exception) -> Exception:
    """Return what a command prints of an error.

    Raises the error itself where it is neither the user's nor about a file that cannot be written.
    """
    if isinstance(error, UserError):
        return error
    said = no_room(getattr(error, "filename", None) or "a file", error)
    if said is None:
        raise error
    return said
