"""Say what a reader wants to know of a run first: who was trained on what by whom, the gain, the cost."""

import os
from itertools import product
from pathlib import Path

from lib import files
from lib.evaluation import registry
from lib.evaluation.registry import JUDGES, RECORDED
from lib.models import catalog
from lib.report import scores, tables
from lib.runner import folders

PAPERS = {  # folder of notebooks: name, authors, number on arXiv
    "tapir": ("TAPIR", "Yue et al., EMNLP 2024 Findings", "2405.13448"),
    "self_guide": ("SELF-GUIDE", "Zhao et al., COLM 2024", "2407.12874"),
}
STUDENT = "lib/gym/student"  # the embedded one
WARM = "lib/gym/warm_student"
NAMES = {
    "exact": "the embedded one, a program that knows the right answers",
    "gym": "gym, the embedded world: tasks drawn and checked by a program",
    STUDENT: f"{STUDENT}, the embedded one",
    WARM: f"{WARM}, the embedded one after a warm-up",
}
FROM_CORPUS = {"exact": "none: the corpus brought its verdicts"}
LOST = ("unread", "cut", "missing", "no_response")  # verdicts or prompts that a score does not rest on

Records = dict[Path, dict]  # of stages, by their folders


def facts(run: Path, summary: dict) -> dict[str, str]:
    """Return {"Student": …, "Oracle": …, …}, without what the run has nothing of."""
    records = tables.records(run)
    table = tables.stages(run)
    pages = [records[folder] for folder in table["folder"][table["arm"] == folders.ALL_ARMS]]
    own = [record for record in records.values() if record not in pages]
    gains = scores.gains(summary)
    lines = [
        f"{arm}: {'; '.join(f'{name}: {text}' for name, text in line.items() if text)}"
        for arm, line in scores.scores(summary).iterrows()
    ]
    each = {
        "Student": student(records),
        "Oracle": named(values(records, "oracle"), records),
        "Judge": judges(records),
        "Data": named(values(records, "source") + values(records, "task"), records),
        "Verdicts": verdicts(summary),
        "Result": "\n".join(filter(None, map(tables.sentence, pages))),
        "Gain": "\n".join(gains),
        "Scores": "" if gains else "\n".join(lines),
        "Cost": cost(summary),
        "Time": f"{sum(record['seconds'] for record in own) / 60:,.1f} minutes, {len(own)} stages",
    }
    return {name: text for name, text in each.items() if text}


def values(records: Records, name: str) -> list[str]:
    """Return the values of a parameter in these stages that are set, each once."""
    each = (record["parameters"].get(name) for record in records.values())
    return list(dict.fromkeys(str(value) for value in each if value not in (None, "", [], 0)))


def is_embedded(records: Records) -> bool:
    """Say whether rows or tasks are the embedded world's."""
    return any(name.startswith("gym") for name in values(records, "source") + values(records, "task"))


def named(names: list[str], records: Records) -> str:
    """Name models and data for a reader; of another corpus, verdicts of `exact` came with the rows."""
    phrases = NAMES if is_embedded(records) or not values(records, "source") else NAMES | FROM_CORPUS
    return ", ".join(dict.fromkeys(phrases.get(name, without_folder(name)) for name in names))


def without_folder(text: object) -> str:
    """Shorten a path outside the project to its name: local paths and servers are not published."""
    text = catalog.split(text)[0] if isinstance(text, str) else text
    return os.path.basename(text) if str(text).startswith(("/", "~", "$", "..")) else text


def student(records: Records) -> str:
    """Name the students that were trained or asked, and the files of recorded responses."""
    asking = {at: r for at, r in records.items() if not any(map(r["parameters"].get, RECORDED))}
    recorded = [without_folder(value) for name in RECORDED for value in values(records, name)]
    texts = [named(values(asking, "student"), records), *(f"responses recorded in {n}" for n in recorded)]
    return ", ".join(filter(None, texts))


def judges(records: Records) -> str:
    """Name the judges with what each judged, and warn of one that judges what it trained."""
    judged: dict[str, list[str]] = {}  # by judge
    teachers: set[str] = set()
    for folder, record in records.items():
        if tables.notebook_of(record) == "tapir/2_oracle_judging":
            models = [catalog.split(record["parameters"].get(name) or "")[0] for name in ("judge", "oracle")]
            teachers |= set(models)
            judged.setdefault(next(filter(None, models), "unknown"), []).append("rows")
        for name in (files.read_json(folder / JUDGES) or {}).get("judges", ()):
            judged.setdefault(name, []).append(tables.title(record))
    texts = []
    for judge in sorted(judged):
        what = list(dict.fromkeys(judged[judge]))
        texts.append(f"{named([judge], records if 'rows' in what else {})} ({', '.join(what)})")
        if judge in teachers - {"exact"} and what != ["rows"]:
            texts[-1] += ", which also taught or chose the rows: it judges its own work"
    return "; ".join(texts)


def cost(summary: dict) -> str:
    """Say the oracle calls of a run, those that its ledger answered, money, and unread verdicts."""
    oracle = summary.get("oracle") or {}
    if not oracle.get("calls") and not oracle.get("cached"):
        return "no oracle call"
    money = "at a price that is not known" if oracle["usd"] is None else f"USD {oracle['usd']:,.2f}"
    calls = f"{oracle['calls']:,} oracle calls, {money}"
    ledger = f"{oracle['cached']:,} replies were in the ledger already"
    return f"{calls}; {ledger}; {oracle['unread']:,} verdicts unread, {oracle['cut']:,} cut"


def verdicts(summary: dict) -> str:
    """Say on how much of a benchmark an arm's scores rest, where that is not all of it."""
    counted = [benchmark for benchmark in registry.BENCHMARKS if benchmark.counted]
    texts = []
    for (arm, result), benchmark in product(summary["arms"].items(), counted):
        counts = {name: result["metrics"].get(f"{benchmark.prefix}.{name}") or 0 for name in ("n", *LOST)}
        if sum(counts.values()) > counts["n"]:
            texts.append(f"{arm}: {benchmark.name}, {counts['n']:,.0f} of {sum(counts.values()):,.0f} read")
    return "\n".join(texts)
