"""The lines of the table as plain dicts, and the table: Markdown, so that it can stand in docs/log.md as it is printed.

A line: `what` was measured, `suite` and `peer` in `unit` (more is better where it ends in "/s", less in those of LESS, others have
no better), `peer_name` with its version, `bound` in words and whether it `holds`. `peer` is None where there is none, and a text where
it could not be measured; `holds` is None without a bound.
"""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HEAD = ("what", "this suite", "peer", "times as good", "bound", "holds")
LESS = ("s", "min", "MB", "GB")  # units of which less is better
HOLDS = {None: "–", True: "yes", False: "**NO**"}


def compared(
    what: str, unit: str, suite: float, peer: float | str | None, peer_name: str, least: float | None = None
) -> dict:
    """A line beside a peer; `least` is the bound, in times as good as the peer."""
    line = {"what": what, "unit": unit, "suite": suite, "peer": peer, "peer_name": peer_name}
    if least is None:
        return line | {"bound": None, "holds": None}
    return line | {"bound": f"≥ {least:g} times as good", "holds": times(line) >= least}


def alone(what: str, unit: str, suite: float, most: float) -> dict:
    """A line without a peer, of something that may be so much at most."""
    bound = {"bound": f"≤ {most:,g} {unit}", "holds": suite <= most}
    return {"what": what, "unit": unit, "suite": suite, "peer": None, "peer_name": ""} | bound


def failed(what: str, why: str) -> dict:
    """A measurement that came to no end: no bound of it holds."""
    return {
        "what": what,
        "unit": "",
        "suite": why,
        "peer": None,
        "peer_name": "",
        "bound": None,
        "holds": False,
    }


def times(line: dict) -> float | None:
    """How many times as good as the peer; None where either has no number."""
    suite, peer = line["suite"], line["peer"]
    if isinstance(suite, str) or peer is None or isinstance(peer, str):
        return None
    if line["unit"].endswith("/s"):
        return suite / peer
    return peer / suite if line["unit"] in LESS else None


def table(lines: list[dict]) -> str:
    return markdown([HEAD, ["---"] * len(HEAD), *map(_cells, lines)])


def markdown(rows: list) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def machine() -> str:
    """Where and with what this was measured, in one line."""
    processor = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d} · {processor[1] if processor else platform.machine()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GB, load {os.getloadavg()[0]:.1f} at the start · Python {platform.python_version()}, {packages} · "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}"
    )


def _cells(line: dict) -> list[str]:
    ratio = times(line)
    peer = "–" if line["peer"] is None else f"{_said(line['peer'], line['unit'])} ({line['peer_name']})"
    bound = str(line["bound"] or "–")
    shown = "–" if ratio is None else f"{ratio:.3g}"
    return [line["what"], _said(line["suite"], line["unit"]), peer, shown, bound, HOLDS[line["holds"]]]


def _said(value: float | str, unit: str) -> str:
    """The number with its unit; a text as it is, but for what would break the table."""
    if isinstance(value, str):
        return " ".join(value.replace("|", "/").split())
    return f"{value:,.{0 if value >= 100 else 2}f} {unit}"
