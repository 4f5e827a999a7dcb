"""What a reader wants to know of a run before all else: who was taught what by whom, with what gain, at what cost, and how to do it again."""

import math
from collections.abc import Iterable
from pathlib import Path

from lib import files
from lib.evaluation import registry
from lib.evaluation.registry import JUDGES, RECORDED
from lib.report import scores, tables
from lib.report.cards.wording import place
from lib.runner import folders

JUDGED = [benchmark for benchmark in registry.BENCHMARKS if benchmark.judged]
IN_WORDS = {
    "exact": "the embedded one, a program that knows the right answers",
    "gym": "gym, the embedded world: tasks drawn and checked by a program",
    "lib/gym/student": "lib/gym/student, the embedded one",
}
CORPUS = "the corpus brought its verdicts: nobody was asked"


def records(run: Path) -> list[dict]:
    """The record of every stage that lies in the run, each once."""
    return [folders.record(folder) for folder in dict.fromkeys(tables.stages(run)["folder"])]


def facts(run: Path, found: dict) -> dict[str, str]:
    """{"Student": …, "Oracle": …, "Judge": …, "Data": …, "Rows": …, "Verdicts": …, "Gain": …, "Cost": …, "Time": …}; what a run has nothing of is
    left out."""
    told, gains = records(run), scores.gains(found)
    own = [of for of in told if of["parameters"].get("arm") != "all"]
    every = {
        "Student": " · ".join(filter(None, [_student(told), size(run, told)])),
        "Oracle": _oracle(told),
        "Judge": judges(run, told),
        "Data": _data(told),
        "Rows": rows(found),
        "Verdicts": verdicts(found),
        "Gain": "\n".join(gains),
        "Scores": "" if gains else "\n".join(scores.told(found)),
        "Cost": cost(found),
        "Time": f"{sum(of['seconds'] for of in own) / 60:,.1f} minutes in {len(own)} stage{'s' * (len(own) != 1)}",
    }
    return {name: text for name, text in every.items() if text}


def values(told: Iterable[dict], name: str) -> list[str]:
    """What a parameter was in any of the stages that have it, where it was not empty."""
    found = (record["parameters"].get(name) for record in told)
    return list(dict.fromkeys(str(value) for value in found if value not in (None, "", [], 0)))


def judges(run: Path, told: list[dict]) -> str:
    """Who judged what, and whether an evaluation was judged by who had taught or chosen: "gpt-4 (rows, MT-Bench). gpt-4 also taught …"."""
    judging = [of["parameters"] for of in told if of["name"].startswith("tapir/2_oracle_judging")]
    judging = [] if _brought(told) else judging
    named = {"rows": {of.get("judge_model") or of.get("oracle", "") for of in judging} - {""}}
    named |= {benchmark.name: _evaluators(run, benchmark.notebook) for benchmark in JUDGED}
    each = sorted(set().union(*named.values()))
    said = [f"{_named(who)} ({', '.join(what for what in named if who in named[what])})" for who in each]
    teachers = {name for of in judging for name in (of.get("oracle"), of.get("judge_model")) if name}
    same = teachers & (set().union(*(named[benchmark.name] for benchmark in JUDGED)) - {"exact"})
    warning = (
        f". {', '.join(sorted(same))} also taught or chose the rows: it judges its own work" if same else ""
    )
    return "; ".join(said) + warning


def cost(found: dict) -> str:
    """Calls that were made for a run, replies that its ledger had already, money, and verdicts that were not read."""
    oracle = found.get("oracle") or {}
    if not oracle.get("calls") and not oracle.get("cached"):
        return "no oracle call"
    money = "at a price that is not known" if oracle["usd"] is None else f"USD {oracle['usd']:,.2f}"
    said = (
        f"{oracle['calls']:,} oracle calls, {money}; {oracle['cached']:,} replies were in the ledger already"
    )
    return f"{said}; {oracle['unread']:,} verdicts unread, {oracle['cut']:,} cut"


def rows(found: dict) -> str:
    """Rows kept of the corpus, those that each arm's rounds taught in all, and the pairs that SELF-GUIDE taught; of a study's main arms."""
    metrics = {arm: found["arms"][arm]["metrics"] for arm in tables.compared(found, "primary")}
    kept = {of["corpus.kept"] for of in metrics.values() if "corpus.kept" in of}
    said = [f"a corpus of {', '.join(f'{n:,.0f}' for n in sorted(kept))}"] if kept else []
    rounds = {arm: sum(of[n] for n in of if tables.ROUND_ROWS.fullmatch(n)) for arm, of in metrics.items()}
    pairs = {arm: of.get("self_guide.training.self_guide.rows") for arm, of in metrics.items()}
    for what, taught in (("taught, in all rounds", rounds), ("pairs taught by SELF-GUIDE", pairs)):
        each = " · ".join(f"{arm} {n:,.0f}" for arm, n in taught.items() if n)
        said += [f"{what}: {each}"] if each else []
    return "\n".join(said)


def verdicts(found: dict) -> str:
    """How much of each benchmark its scores rest on, by arm, where that is not all of it."""
    each = [(arm, *told) for arm, of in found["arms"].items() for told in tables.read(of["metrics"]).items()]
    part = [(arm, name, n) for arm, name, n in each if n["read"] < n["total"]]
    return "\n".join(f"{arm}: {name}, {n['read']:,.0f} of {n['total']:,.0f} read" for arm, name, n in part)


def size(run: Path, told: list[dict]) -> str:
    """Parameters of the student that the run trained, where it is one."""
    from safetensors import SafetensorError, safe_open

    files = next(
        (f for folder in tables.stages(run)["folder"] if (f := sorted(folder.glob("student/*.safetensors")))),
        [],
    )
    if len(values(told, "student")) > 1 or not files:
        return ""
    total = 0
    try:
        for path in files:
            with safe_open(path, "numpy") as weights:
                names = weights.keys()
                total += sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    except SafetensorError:  # what it weighs is not worth a report
        return ""
    return f"{total / 1e9:.1f} B parameters" if total >= 1e9 else f"{total / 1e6:.1f} M parameters"


def _brought(told: list[dict]) -> bool:
    """Whether the embedded oracle stands for nobody: rows that are none of its world bring their verdicts."""
    embedded = any(name == "gym" for name in values(told, "source")) or not values(told, "source")
    return set(values(told, "oracle")) == {"exact"} and not embedded


def _oracle(told: list[dict]) -> str:
    judged = any(of["name"].startswith("tapir/2_oracle_judging") for of in told)
    return CORPUS if judged and _brought(told) else ", ".join(map(_named, values(told, "oracle")))


def _evaluators(run: Path, notebook: str) -> set[str]:
    found = (files.read_json(folder / JUDGES) or {} for folder in tables.places(run, notebook).values())
    return {name for of in found for name in of.get("judges", ())}


def _named(value: str) -> str:
    return IN_WORDS.get(value, place(value))


def _student(told: list[dict]) -> str:
    """Who was taught or asked; where the responses were recorded, the files that hold them."""
    asked = [of for of in told if not any(of["parameters"].get(name) for name in RECORDED)]
    files = [f"responses recorded in {place(value)}" for name in RECORDED for value in values(told, name)]
    return ", ".join([*map(_named, values(asked, "student")), *files])


def _data(told: list[dict]) -> str:
    return ", ".join(map(_named, values(told, "source") + values(told, "task")))
