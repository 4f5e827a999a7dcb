"""Why a ledger cannot be used, and the way out."""

from pathlib import Path

from lib import paths
from lib.errors import NO_ROOM, WAY_OUT, UserError

NETWORK = {"9p", "beegfs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}  # fmt: skip

KINDS = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")


def no_room(error: object) -> str:
    """The way out where an error, SQLite's or the system's, means that the ledger cannot grow or may not be written; else empty."""
    name = getattr(error, "sqlite_errorname", "")
    return WAY_OUT if name.startswith(KINDS) or any(text in str(error) for text in NO_ROOM) else ""


def explained(what: str, error: Exception, path: Path) -> UserError:
    """What to say where this error keeps a ledger from being used."""
    if way_out := no_room(error):
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
