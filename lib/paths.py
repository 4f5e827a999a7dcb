"""Find files: the project's root, and the meaning of a path or an address in a parameter."""

import glob
import hashlib
import os
import re
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from lib.errors import UserError, one_line

ABOVE = Path(__file__).resolve().parents[1]
ROOT = ABOVE if (ABOVE / "notebooks").is_dir() else Path.cwd()  # an installed lib has no project around it
RECORDED = "recorded:"  # before the file of a recorded judge
FOLDERS = ("source", "student", "gold", "classifier", "benchmarks")  # parameters: one word may be a folder
INSTEAD = "Download the file yourself, and name it."
# of a file of data; what a server answers otherwise is none
ADDRESS = re.compile(r"https?://[^\s?#/]+/[^\s?#]*\w\.(jsonl?|parquet|csv|yaml)(\.gz|\.xz)?([?#]\S*)?")
PASSWORD = re.compile(r"//[^/]*@|[?&][\w-]*(key|token|secret|sig|signature|password)=", re.IGNORECASE)


def recorded_data() -> Path:
    """Return the folder of recorded data: $RECORDED_DATA, else ../shared/data."""
    return (ROOT / os.environ.get("RECORDED_DATA", "../shared/data")).resolve()


def expand(text: str) -> str:
    """Fill in variables and ~; $RECORDED_DATA has a value even when it is not set."""
    for name in ("${RECORDED_DATA}", "$RECORDED_DATA"):
        text = text.replace(name, str(recorded_data())) if name in text else text
    return os.path.expanduser(os.path.expandvars(text))


def local(text: str) -> Path:
    """Resolve a path from the project's root, else from the working directory; fetch an address."""
    text = expand(text)
    if ADDRESS.fullmatch(text):
        return fetch(text)
    below = ROOT / text
    return below if os.path.exists(below) else Path(text)  # a name too long for a file is none


def recorded_file(judge: str) -> str:
    """Return the file, folder or pattern of a judge that is recorded:FILE; empty for another judge."""
    return judge.removeprefix(RECORDED) if judge.startswith(RECORDED) else ""


def outputs() -> Path:
    """Return the folder of all runs: $OUTPUTS, or outputs/ in the project."""
    return Path(os.environ.get("OUTPUTS") or ROOT / "outputs").resolve()


def downloads() -> Path:
    """Return the folder of the files that parameters name by address."""
    return outputs() / "downloads"


def downloaded(address: str) -> Path:
    """Return where the file of an address lies once it is fetched, under its own name."""
    folder = hashlib.sha256(address.encode()).hexdigest()[:12]
    return downloads() / folder / urlsplit(address).path.rpartition("/")[2]


def fetch(address: str) -> Path:
    """Return the file of https://…/name.json, fetched once; "#sha256=HEX" at the end checks its content.

    Raises UserError for a file that cannot be fetched or differs, and for an address with a password or key.
    """
    path = downloaded(address)
    if PASSWORD.search(address):
        where = f"the address of {path.name} at {urlsplit(address).hostname}"
        raise UserError(f"{where} holds a password or key, which a record would keep. {INSTEAD}")
    if path.exists():
        return path
    import fsspec  # with a client for HTTP that little else here needs

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as own:  # another run may fetch the same file
        partial, (url, _, checksum) = Path(own) / path.name, address.partition("#")
        try:
            fsspec.filesystem("http", client_kwargs={"trust_env": True}).get_file(url, str(partial))
        except FileNotFoundError:
            raise UserError(f"{url}: the server has no such file (404). Correct the address.") from None
        except Exception as error:  # each kind of absence has its own class, from two libraries
            reason = one_line(error, 200)
            raise UserError(f"{url}: it cannot be fetched ({reason}). {INSTEAD}") from None
        with open(partial, "rb") as file:
            digest = "sha256=" + hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            is_page = file.read(100).lstrip()[:1] == b"<"
        if checksum.lower() not in ("", digest):
            raise UserError(f"{url}: it has {digest}, not {checksum}. Correct the checksum or the address.")
        if is_page:
            raise UserError(f"{url}: this is a web page. Name the address of the raw file.")
        partial.replace(path)
    return path


def from_shell(name: str, text: str) -> str:
    """Resolve the value of `-p name=text` where it is a path in the shell's folder.

    It becomes absolute, or relative to the root where it lies below; so does each part of a list "[a, b]".
    """
    parts = r"[^\s,'\"\[\]]+" if text.startswith("[") else r"(?s).+"
    return re.sub(parts, lambda part: _from_shell(name.rpartition(".")[2], part[0]), text)


def _from_shell(name: str, text: str) -> str:
    """Resolve one path, also of name@url; a bare word names a file, or a folder for FOLDERS."""
    before = RECORDED if text.startswith(RECORDED) else ""
    text, at, url = text.removeprefix(RECORDED).partition("@http")
    there = os.path.exists if "/" in text or name in FOLDERS and text != "gym" else os.path.isfile
    pattern = not there(text) and glob.has_magic(text)
    if os.path.isabs(text) or not (glob.glob(text, recursive=True) if pattern else there(text)):
        return before + text + at + url
    folder = Path.cwd()
    folder = str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)
    path = os.path.normpath(os.path.join(glob.escape(folder) if pattern else folder, text))
    return before + path + at + url


def matching(pattern: str) -> list[Path]:
    """List the files that a pattern with *, ? or [] names, looked for like `local`."""
    for folder in (ROOT, Path.cwd()):
        if matches := glob.glob(os.path.join(glob.escape(str(folder)), expand(pattern)), recursive=True):
            return sorted(map(Path, matches))
    return []


def short(path: Path | str) -> str:
    """Return the path to show: from the project on, where it lies inside."""
    return str(path).removeprefix(f"{ROOT}/")
