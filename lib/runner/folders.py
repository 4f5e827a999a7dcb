"""Where stages lie, when they are finished, and who may write them.

outputs/store/<notebook>/<key12>/               a finished stage: its stage.json lists its files
outputs/store/<notebook>/<key12>.part/          a stage in progress, continued after a restart
outputs/<run>/<arm>/s<seed>/<notebook>@<round>  a relative link to a finished stage
outputs/interactive/<arm>/s<seed>/<notebook>@<round>/    a finished stage of a notebook opened by hand

The same key is the same stage, in any run, arm and seed.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import files, paths
from lib.errors import UserError
from lib.paths import outputs

PLAIN = re.compile(r"\w[\w.,+=~-]{0,99}")
STORE, BY_HAND = "store", "interactive"  # folders of outputs that are no run
ALL_ARMS = "all"  # in place of an arm, for a stage that reports on the run
KEY_LENGTH = 12  # characters of a key in a folder's name
IN_STORE = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}(\.part)?")
KERNEL_GONE_S = 30  # a kernel outlives a killed runner by a second; its children by a few
PASSING = ("lock", "plan.json", "progress.json")  # while a stage is worked on
STAGE_PAGE = "notebook.html"  # beside a report that cannot hold all notebooks: no part of a result
OWN_FILES = (*PASSING, "stage.json", "metrics.json", "notebook.ipynb", STAGE_PAGE)
CARD = "README.md"  # says what a folder holds, and decides nothing
_hashes: dict[tuple[str, int, int], str] = {}  # path, size and time of a file -> its hash


def notebook_path(name: str) -> Path:
    return paths.ROOT / "notebooks" / f"{name}.ipynb"


def stage_folder(run: str, arm: str, seed: int, notebook: str, round: int) -> Path:
    """Return where a stage is found in a run: a link, or a folder in `interactive`."""
    return outputs() / run / arm / f"s{seed}" / f"{notebook}@{round}"


def run_and_arm(text: str) -> tuple[str, str]:
    """Split "demo/tapir" into a run and its arm; "demo" means all arms of it.

    Raises UserError for a name that is not a plain word.
    """
    run, _, arm = text.partition("/")
    check_plain(run, "run")
    check_plain(arm or ALL_ARMS, "arm")
    return run, arm or ALL_ARMS


def stored(notebook: str, key: str) -> Path:
    """Return the folder in the store for the stage with this key."""
    return outputs() / STORE / notebook / key[:KEY_LENGTH]


def check_plain(name: str, what: str) -> None:
    """Raise UserError for a name of a folder that is not a plain word."""
    if not PLAIN.fullmatch(name):
        raise UserError(f"{what} name {name!r:.60} must be a plain word, as it names a folder")


# --- finished stages


def record(folder: Path) -> dict | None:
    """Return the stage.json of a finished stage, or None."""
    data = files.read_json(folder / "stage.json")
    return data if data and "key" in data else None


def stage_of(path: Path) -> Path | None:
    """Return the folder of the stage that wrote a file or folder, or None."""
    return next((folder for folder in (path, *path.parents) if record(folder)), None)


def record_of(path: Path) -> dict | None:
    """Return the stage.json of the stage that wrote a file or folder, or None."""
    folder = stage_of(path)
    return folder and record(folder)


def metrics(folder: Path) -> dict[str, float | None]:
    """Return the metrics that a stage wrote."""
    return files.read_json(folder / "metrics.json") or {}


def is_complete(folder: Path) -> bool:
    """Return whether a stage is finished and its files are as they were written."""
    return record(folder) is not None and damage(folder) is None


def damage(folder: Path) -> str | None:
    """Name the first file of a finished stage that is missing or changed, if any.

    A file's content is only read where its time differs from the recorded one.
    """
    for name, written in (record(folder) or {}).get("files", {}).items():
        path = folder / name
        status = path.stat() if path.is_file() else None
        is_same = status and status.st_size == written["size"]
        if not is_same or (status.st_mtime_ns != written["mtime_ns"] and digest(path) != written["sha256"]):
            return f"{name} is not as it was written"
    return None


def digest(path: Path) -> str:
    """Hash a file, or a folder's names and contents without records and cards."""
    if path.is_dir():
        inside = {each.relative_to(path).as_posix(): each for each in files_of(path)}
        counted = [
            n for n in inside if n not in OWN_FILES and inside[n].name != CARD and "__pycache__" not in n
        ]
        lines = [f"{name} {digest(inside[name])}" for name in counted]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    status = path.stat()
    version = (str(path), status.st_size, status.st_mtime_ns)
    if version not in _hashes:
        with open(path, "rb") as file:
            _hashes[version] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[version]


def files_of(folder: Path) -> list[Path]:
    """List the files of a stage but its stage.json, in a fixed order."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / "stage.json")


def listing(folder: Path) -> dict[str, dict]:
    """List size, time and hash of every file of a stage, for its stage.json."""
    result = {}
    for path in files_of(folder):
        status = path.stat()
        entry = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest(path)}
        result[path.relative_to(folder).as_posix()] = entry
    return result


def link(path: Path, folder: Path) -> None:
    """Make `path`, in a run, a relative link to a stage in the store."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(folder, path.parent.resolve())
    if not path.is_symlink() or os.readlink(path) != target:
        with files.whole(path) as partial:
            partial.unlink(missing_ok=True)
            partial.symlink_to(target)


# --- work in progress


def part_of(folder: Path) -> Path:
    """Return the folder in which a stage of the store is worked on."""
    return folder.with_name(f"{folder.name}.part")


@contextmanager
def reserve(folder: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a stage in the store; wait while another run works on it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}.lock")
    try:
        lock = files.lock(path, 0, paths.short(folder))
    except UserError as error:
        note(str(error))
        lock = files.lock(path, float("inf"))
    with lock:
        yield
        path.unlink(missing_ok=True)  # the stage is finished: another holder of the file finds it so


def recover(folder: Path) -> bool:
    """Say whether a reserved stage is finished; move a part that is, first."""
    if is_complete(part_of(folder)):
        _move(part_of(folder), folder)
    return is_complete(folder)


def open_part(part: Path, wait_s: float = KERNEL_GONE_S) -> Path:
    """Return the folder to work in, with what an earlier attempt left there.

    Raises UserError when a kernel still writes to it after `wait_s` seconds.
    """
    part.mkdir(parents=True, exist_ok=True)
    files.lock(part / "lock", wait_s, paths.short(part)).close()
    return part


def complete(plan: dict, part: Path, folder: Path) -> None:
    """Write stage.json, the last file of a stage, and move the part to `folder`."""
    says = (files.read_json(part / "progress.json") or {}).get("says", "")
    shutil.rmtree(part / "work", ignore_errors=True)
    for path in [*(part / name for name in PASSING), *part.glob("*.tmp")]:
        path.unlink(missing_ok=True)
    seconds = round(time.time() - plan["started_at"], 1)
    files.write_json(part / "stage.json", plan | {"says": says, "seconds": seconds, "files": listing(part)})
    _move(part, folder)


def _move(part: Path, folder: Path) -> None:
    """Put a finished part in the place of `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


# --- what no run needs


def unused() -> list[Path]:
    """List folders of the store that no run links to, and parts, but none in use."""
    runs = [path.resolve() for path in outputs().glob("*") if path.is_dir() and path.name != STORE]
    linked = {path.resolve() for run in runs for path in run.rglob("*") if path.is_symlink()}
    entries = [*(outputs() / BY_HAND).rglob("*.part")]
    for folder, names, _ in os.walk(outputs() / STORE):
        entries += [Path(folder, name) for name in names if IN_STORE.fullmatch(name)]
        names[:] = [name for name in names if not IN_STORE.fullmatch(name)]
    return [path for path in sorted(entries) if path.resolve() not in linked and not _in_use(path)]


def _in_use(folder: Path) -> bool:
    try:
        for path in (folder / "lock", folder.with_suffix(".lock")):
            if path.is_file():
                files.lock(path).close()
    except UserError:
        return True
    return False
