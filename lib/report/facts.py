"""Say what a reader wants to know of a run first: who was trained on what by whom, the gain, the cost."""

import os
from pathlib import Path

from lib import files
from lib.evaluation import registry
from lib.evaluation.registry import JUDGES, RECORDED
from lib.report import scores, tables

PAPERS = {  # folder of notebooks: name, authors, number on arXiv
    "tapir": ("TAPIR", "Yue et al., EMNLP 2024 Findings", "2405.13448"),
    "self_guide": ("SELF-GUIDE", "Zhao et al., COLM 2024", "2407.12874"),
}
STUDENT = "lib/gym/student"  # the embedded one
NAMES = {
    "exact": "the embedded one, a program that knows the right answers",
    "gym": "gym, the embedded world: tasks drawn and checked by a program",
    STUDENT: f"{STUDENT}, the embedded one",
}
FROM_CORPUS = "none: the corpus brought its verdicts"
LOST = ("unread", "cut", "missing", "no_response")  # verdicts or prompts that a score does not rest on


def facts(run: Path, summary: dict) -> dict[str, str]:
    """Return {"Student": …, "Oracle": …, …}, without what the run has nothing of."""
    records, gains = tables.records(run), scores.gains(summary)
    own = [record for record in records if record["parameters"].get("arm") != "all"]
    shown = scores.scores(summary)
    each = {
        "Student": student(records),
        "Oracle": FROM_CORPUS if _brought_verdicts(records) else _named(values(records, "oracle")),
        "Judge": judges(run, records),
        "Data": _named(values(records, "source") + values(records, "task")),
        "Verdicts": verdicts(summary),
        "Gain": "\n".join(gains),
        "Scores": "" if gains else "\n".join(f"{arm}: {_sentence(line)}" for arm, line in shown.iterrows()),
        "Cost": cost(summary),
        "Time": f"{sum(record['seconds'] for record in own) / 60:,.1f} minutes, {len(own)} stages",
    }
    return {name: text for name, text in each.items() if text}


def values(records: list[dict], name: str) -> list[str]:
    """Return the values of a parameter in these stages that are set, each once."""
    each = (record["parameters"].get(name) for record in records)
    return list(dict.fromkeys(str(value) for value in each if value not in (None, "", [], 0)))


def without_folder(text: object) -> str:
    """Shorten a path outside the project to its name: local paths and servers are not published."""
    text = text.partition("@http")[0] if isinstance(text, str) else text
    return os.path.basename(text) if str(text).startswith(("/", "~", "$", "..")) else text


def student(records: list[dict]) -> str:
    """Name the students that were trained or asked, and the files of recorded responses."""
    asking = [record for record in records if not any(record["parameters"].get(name) for name in RECORDED)]
    recorded = [without_folder(value) for name in RECORDED for value in values(records, name)]
    files_of = [f"responses recorded in {name}" for name in recorded]
    return ", ".join(filter(None, [_named(values(asking, "student")), *files_of]))


def judges(run: Path, records: list[dict]) -> str:
    """Name the judges with what each judged, and warn of one that judges what it trained."""
    judging = [record["parameters"] for record in records if _is_judging(record)]
    judging = [] if _brought_verdicts(records) else judging
    judged = {"rows": {parameters.get("judge") or parameters.get("oracle") for parameters in judging}}
    for benchmark in registry.BENCHMARKS:
        folders_of = tables.places(run, benchmark.notebook).values() if benchmark.judged else ()
        noted = [files.read_json(folder / JUDGES) or {} for folder in folders_of]
        judged[benchmark.name] = {name for note in noted for name in note.get("judges", ())}
    everyone = sorted(filter(None, set().union(*judged.values())))
    texts = [
        f"{_named([name])} ({', '.join(what for what in judged if name in judged[what])})"
        for name in everyone
    ]
    evaluators = set().union(*(names for what, names in judged.items() if what != "rows"))
    teachers = {parameters.get(name) for parameters in judging for name in ("oracle", "judge")}
    both = evaluators & teachers - {"exact"}
    warning = f". {', '.join(sorted(both))} also taught or chose the rows: it judges its own work"
    return "; ".join(texts) + warning * bool(both)


def cost(summary: dict) -> str:
    """Say the oracle calls of a run, those that its ledger answered, money, and unread verdicts."""
    oracle = summary.get("oracle") or {}
    if not oracle.get("calls") and not oracle.get("cached"):
        return "no oracle call"
    money = "at a price that is not known" if oracle["usd"] is None else f"USD {oracle['usd']:,.2f}"
    calls = (
        f"{oracle['calls']:,} oracle calls, {money}; {oracle['cached']:,} replies were in the ledger already"
    )
    return f"{calls}; {oracle['unread']:,} verdicts unread, {oracle['cut']:,} cut"


def verdicts(summary: dict) -> str:
    """Say on how much of a benchmark an arm's scores rest, where that is not all of it."""
    texts = []
    for arm, result in summary["arms"].items():
        for benchmark in registry.BENCHMARKS:
            metrics = result["metrics"]
            n = metrics.get(f"{benchmark.prefix}.n") if benchmark.counted else None
            lost = sum(metrics.get(f"{benchmark.prefix}.{cause}") or 0 for cause in LOST)
            if n is not None and lost:
                texts.append(f"{arm}: {benchmark.name}, {n:,.0f} of {n + lost:,.0f} read")
    return "\n".join(texts)


def _brought_verdicts(records: list[dict]) -> bool:
    """Say whether the rows brought their verdicts: the embedded oracle then answered nothing."""
    sources = values(records, "source")
    return (
        any(map(_is_judging, records))
        and values(records, "oracle") == ["exact"]
        and bool(sources)
        and "gym" not in sources
    )


def _is_judging(record: dict) -> bool:
    return record["name"].startswith("tapir/2_oracle_judging")


def _named(names: list[str]) -> str:
    return ", ".join(NAMES.get(name, without_folder(name)) for name in names)


def _sentence(line) -> str:
    return "; ".join(f"{name}: {text}" for name, text in line.items() if text)
