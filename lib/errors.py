"""The one kind of error that is the user's to repair: shown as its sentence, without a traceback."""

import difflib
import errno
from collections.abc import Iterable

MOST, LONGEST = 10, 60  # names in a message, and characters of one
# the system's own words say enough: no space, or no right to write
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class UserError(Exception):
    """What is wrong, where (file, line or parameter), and what to do."""

    def _render_traceback_(self) -> list[str]:  # what IPython shows below the cell
        return [str(self)]


def one_line(error: object, longest: int = 300) -> str:
    """Return another library's error, or a text, in one line that can be printed."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if text.isprintable() else repr(text)[1:-1])[:longest]


def named(names: Iterable[object]) -> str:
    """List names from a file in a message: ten at most, sorted, each of 60 characters."""
    texts = sorted(name if name.isprintable() else repr(name)[1:-1] for name in map(str, names))
    more = [f"{len(texts) - MOST:,} more"] if len(texts) > MOST else []
    return ", ".join([*(name[:LONGEST] for name in texts[:MOST]), *more])


def for_user(error: Exception) -> Exception:
    """Return an error that a command prints in one line: the user's, or the disk's.

    Raises any other.
    """
    if isinstance(error, UserError) or isinstance(error, OSError) and error.errno in UNWRITABLE:
        return error
    raise error


def nearest(name: str, names: Iterable[str], n: int = 1, cutoff: float = 0.5) -> str:
    """Return " (did you mean … or …?)" for the `n` nearest known names, or an empty text."""
    close = difflib.get_close_matches(name, list(names), n, cutoff)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
