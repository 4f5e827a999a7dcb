"""Files written whole or not at all, JSON, YAML, locks; and a process that ends with its parent."""

import ctypes
import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from lib.errors import UserError, one_line


def write_json(path: Path, data: object) -> None:
    """Write JSON durably: the file is whole, or as it was before."""
    with whole(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a name to write to, which becomes `path` unless there was an error."""
    partial = path.with_name(path.name + ".tmp")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path) -> dict | None:
    """Read JSON; None where the file is missing or cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def load_yaml(text: str, where: str) -> object:
    """Read YAML. Raises UserError beginning with `where`, for a repeated key, too."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: {one_line(error)}") from None


class _Loader(yaml.SafeLoader):
    """Reads dates as texts, as JSON has none, and refuses repeated keys."""

    yaml_implicit_resolvers = {
        sign: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(names)) < len(names):
            twice = max(names, key=names.count)
            raise yaml.YAMLError(f"{twice} stands twice, line {node.start_mark.line + 1} on")
        return super().construct_mapping(node, deep)


def lock(path: Path, wait_s: float = 0, what: str = "it"):
    """Take a lock file with the own pid in it; closing the file, or dying, releases it.

    Raises UserError with the holder's pid after `wait_s` seconds.
    """
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (kept open: it is the lock)
    until = time.monotonic() + wait_s
    while not _locked(file):
        if time.monotonic() >= until:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise UserError(f"{what} is in use by process {holder}: wait for it, or stop it (kill {holder})")
        time.sleep(0.1)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _locked(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends: at once on Linux, within 0.2 s elsewhere."""
    if sys.platform == "linux":  # unlike a thread, this outlives an exec
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # the parent ended before the call
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
