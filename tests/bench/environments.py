"""Peers in environments of their own, which `make bench-peers` makes: their versions, and asking by them."""

import json
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

from lib.paths import ROOT

PLACE = ROOT / ".peers"
PACKAGES = {"curator": "bespokelabs-curator", "distilabel": "distilabel"}
ABSENT = "not installed: make bench-peers"
LONGEST_S = 180  # for one list of prompts


class Failed(Exception):
    """A peer that ended with an error or too late: what it said last."""


def version(peer: str) -> str | None:
    """The one that is installed; None where none is."""
    if not (PLACE / peer / ".done").exists():
        return None
    packages = map(str, (PLACE / peer).glob("lib/python*/site-packages"))
    (distribution,) = metadata.distributions(name=PACKAGES[peer], path=list(packages))
    return distribution.version


def ask(peer: str, url: str, at_once: int, prompts: list[str]) -> None:
    """Have the peer ask an endpoint all prompts. Raises Failed."""
    script = Path(__file__).parent / f"peers/with_{peer}.py"
    with tempfile.TemporaryDirectory() as folder:
        command = [PLACE / peer / "bin/python", "-I", script, url, str(at_once), folder]
        try:
            subprocess.run(
                command,
                input=json.dumps(prompts),
                capture_output=True,
                text=True,
                check=True,
                timeout=LONGEST_S,
            )
        except subprocess.CalledProcessError as error:
            raise Failed((error.stderr.strip() or "it said nothing").splitlines()[-1]) from None
        except subprocess.TimeoutExpired:
            raise Failed(f"not done after {LONGEST_S} s") from None
