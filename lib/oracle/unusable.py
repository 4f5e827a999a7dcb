"""Why a ledger cannot be used, and the way out."""

from pathlib import Path

from lib import paths
from lib.errors import UNWRITABLE, WAY_OUT, UserError

NETWORK = {"9p", "beegfs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}  # fmt: skip

# what SQLite calls that a file cannot grow, cannot be opened or written, or is another's for now
FULL, HELD = ("SQLITE_FULL", "SQLITE_IOERR"), ("SQLITE_BUSY", "SQLITE_LOCKED")
SHUT = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")


def _way_out(error: Exception) -> str:
    """Empty where the file is there, and free, and is not what it should be."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(FULL) or any(text in str(error) for text in UNWRITABLE):
        return WAY_OUT
    if name.startswith(SHUT) or isinstance(error, OSError):
        return f"name a file that you may write, or {WAY_OUT}"
    return "another program holds it: end that one" if name.startswith(HELD) else ""


def explained(what: str, error: Exception, path: Path) -> UserError:
    """What to say where this error keeps a ledger from being used."""
    if way_out := _way_out(error):
        return UserError(f"{what} ({error}): {way_out}; the same command then goes on from here")
    return UserError(
        f"{what} ({error}): move it away or name another one; `python -m lib.oracle save {path} NEW` saves what can be read of it. "
        "One that was copied while it was written needs its -wal file beside it"
    )


def refuse_network(path: Path) -> None:
    """Raises UserError where SQLite's locks would not hold."""
    kind = paths.filesystem(path.resolve().parent)
    if kind in NETWORK:
        raise UserError(
            f"the ledger {path} would lie on a network filesystem ({kind}), where SQLite loses data: put it on a local "
            "disk, and copy it with `python -m lib.oracle export` or when nothing runs"
        )
