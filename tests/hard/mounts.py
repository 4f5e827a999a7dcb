"""Disks that are full or read-only: mounts in a namespace of their own, which go with the process that holds it."""

import shutil
import subprocess
from pathlib import Path

import pytest
import small


class Mounts:
    """Where mounts are not seen by anybody else; `words` before a command run it there. Skips the test where that is not allowed."""

    def __init__(self):
        if not shutil.which("unshare") or not shutil.which("nsenter"):
            pytest.skip("no unshare or nsenter (util-linux) is installed")
        words = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs none /mnt && umount /mnt && echo held && exec sleep 3600",
        ]
        self.holder = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "held\n":
            pytest.skip(f"mounts are not allowed here: {self.holder.communicate()[1].strip()}")

    @property
    def words(self) -> list[str]:
        return [
            "nsenter",
            "-t",
            str(self.holder.pid),
            "-m",
            "sh",
            "-c",
            'cd "$0" && exec "$@"',
            str(small.ROOT),
        ]

    def _do(self, script: str, *given: object) -> None:
        subprocess.run([*self.words, "sh", "-ec", script, *map(str, given)], check=True)

    def fill(self, folder: Path, spare: int) -> None:
        """Put a folder with all in it on a disk of its own that has so many bytes left."""
        beside, size = folder.with_name(folder.name + "-disk"), _size(folder) + spare
        beside.mkdir()
        script = 'mount -t tmpfs -o size="$0" none "$1"; cp -a "$2/." "$1"; mount --bind "$1" "$2"'
        self._do(script, size, beside, folder)

    def widen(self, folder: Path) -> None:
        """Give that disk as much room as there is."""
        self._do('mount -o remount,size=1g "$0"', folder.with_name(folder.name + "-disk"))

    def protect(self, folder: Path) -> None:
        """Make a folder read-only."""
        self._do('mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"', folder)

    def release(self, folder: Path) -> None:
        """Make it as it was."""
        self._do('umount "$0"', folder)

    def seen(self, path: Path) -> Path:
        """The path as it looks from outside."""
        return Path(f"/proc/{self.holder.pid}/root{path}")

    def close(self) -> None:
        self.holder.kill()
        self.holder.communicate()


def _size(folder: Path) -> int:
    """Bytes in whole pages, as such a disk counts."""
    return sum(-(-path.stat().st_size // 4096) * 4096 + 4096 for path in folder.rglob("*"))
