"""Where a stage's files lie, when they are complete, and who may write them.

outputs/<run>/<arm>/s<seed>/<notebook>@<round>/        complete: holds a stage.json whose files are all there
outputs/<run>/<arm>/s<seed>/<notebook>@<round>.<key8>.part/    work in progress, continued after a restart
outputs/<run>/<arm>/s<seed>/<notebook>@<round>.superseded-<n>/    an earlier result; nothing is deleted
"""

import os
import re
import shutil
from pathlib import Path

from lib import files, paths
from lib.errors import UserError
from lib.runner.digests import PASSING, STAGE_PAGE

PLAIN = re.compile(r"\w[\w.,+=~-]{0,99}")
KERNEL_GONE_S = 30  # a kernel outlives a killed runner by a second; its children by a few


def outputs() -> Path:
    """The folder of all runs: $OUTPUTS, or outputs/ in the project."""
    return Path(os.environ.get("OUTPUTS") or paths.ROOT / "outputs").resolve()


def notebook_path(name: str) -> Path:
    return paths.ROOT / "notebooks" / f"{name}.ipynb"


def check_plain(name: str, what: str) -> None:
    """Raises UserError for a name that is no plain word: it names a folder, in outputs and nowhere else."""
    if not PLAIN.fullmatch(name):
        raise UserError(f"{what} name {name!r:.60} must be a plain word, as it names a folder")


def stage_folder(run: str, arm: str, seed: int, notebook: str, round: int) -> Path:
    return outputs() / run / arm / f"s{seed}" / f"{notebook}@{round}"


def check_inside(folder: Path) -> None:
    """Raise UserError for a file, and for a link that leads shared stages out of outputs."""
    if folder.is_file():
        raise UserError(f"{paths.short(folder)} is a file: remove it, or choose another name with --run")
    if not folder.resolve().is_relative_to(outputs()):
        raise UserError(
            f"{paths.short(folder)} is a link that leads out of {paths.short(outputs())}: remove it, or set OUTPUTS to where all runs shall lie"
        )


# --- complete stages


def record(folder: Path) -> dict | None:
    """The stage.json of a complete stage, or None. A shared stage's record says where it is stored."""
    data = files.read_json(folder / "stage.json")
    return data if data and "key" in data else None


def stored(folder: Path) -> Path:
    """The folder that really holds a stage's files: its own, or the one a shared stage names."""
    elsewhere = (record(folder) or {}).get("stored_in")
    return run_of(folder) / elsewhere if elsewhere else folder


def run_of(folder: Path) -> Path:
    """The run's folder, of any folder inside it."""
    return outputs() / folder.resolve().relative_to(outputs()).parts[0]


def damage(folder: Path) -> str | None:
    """What is wrong with a stage that says it is complete: a file gone, of another size or, where its time is another, content. None:
    nothing."""
    from lib.runner import digests

    for name, written in (record(folder) or {}).get("files", {}).items():
        path = folder / name
        if name == STAGE_PAGE:  # which records used to list
            continue
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != written["size"]:
            return f"{name} has {path.stat().st_size} bytes, {written['size']} were written"
        if path.stat().st_mtime_ns != written["mtime_ns"] and digests.digest(path) != written["sha256"]:
            return f"{name} was changed after it was written"
    return None


def is_complete(folder: Path) -> bool:
    """Whether its own stage.json, or the stage that it is shared with, is whole."""
    real = stored(folder)
    found = record(real)
    return bool(
        found and "stored_in" not in found and found["key"] == record(folder)["key"] and not damage(real)
    )


def is_aside(folder: Path) -> bool:
    """Superseded, or complete but for its name (a runner killed at the last moment): free to be moved."""
    return folder.suffix == ".part" or ".superseded-" in folder.name


def complete_stages(run: Path) -> list[Path]:
    """Folders of a run that hold a whole stage, those in use before those set aside."""
    found = [path.parent for path in run.glob("*/s*/**/stage.json")]
    whole = [f for f in found if is_complete(f) and stored(f) == f]
    return sorted(whole, key=lambda f: (is_aside(f), str(f)))


def supersede(folder: Path) -> Path:
    """Rename a folder out of the way: "4_training@1.superseded-1", or the next number."""
    stem = re.sub(r"(@\d+)\.\w{8}\.part$", r"\1", folder.name)
    n = 1
    while (aside := folder.with_name(f"{stem}.superseded-{n}")).exists():
        n += 1
    return folder.rename(aside)


def superseded(final: Path) -> set[Path]:
    """What was set aside of this stage so far."""
    return set(final.parent.glob(f"{final.name}.superseded-*"))


# --- work in progress


def open_part(final: Path, key: str, wait_s: float = KERNEL_GONE_S) -> Path:
    """The folder to work in: the one left by an earlier attempt at the same key, else a new one.

    Raises UserError when another process still writes to it, or to one of another key, after wait_s seconds.
    """
    part = final.with_name(f"{final.name}.{key[:8]}.part")
    for left in final.parent.glob(f"{final.name}.*.part"):
        files.lock(left / "lock", wait_s, str(left)).close()
        if left != part:
            clear(left)
            supersede(left)
    part.mkdir(parents=True, exist_ok=True)
    return part


def clear(part: Path) -> None:
    """Remove what only matters while a stage is worked on, and half-written files."""
    shutil.rmtree(part / "work", ignore_errors=True)
    for path in [*(part / name for name in PASSING), *part.glob("*.tmp")]:
        path.unlink(missing_ok=True)


def complete(part: Path, final: Path, data: dict) -> None:
    """Write stage.json, the last file of a stage, and give the folder its name; what was there is superseded."""
    files.write_json(part / "stage.json", data)
    if final.exists():
        supersede(final)
    part.rename(final)
