"""What a reader wants to know of a run before all else: who was taught what by whom, with what gain, at what cost, and how to do it again."""

import math
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lib.evaluation.shared import JUDGES
from lib.report import scores, tables
from lib.runner import folders

FILES = {"AlpacaEval": "alpaca_eval", "MT-Bench": "mt_bench"}  # the benchmarks with a judge
TAUGHT = re.compile(r"training\.round_\d+\.rows|self_guide\.training\.self_guide\.rows")
RECORDED = (
    "model_outputs",
    "answers",
    "responses",
    "judgments",
)  # parameters that name a student's responses
EMBEDDED = {
    "exact": "exact (embedded)",
    "gym": "gym (embedded)",
    "lib/gym/student": "lib/gym/student (embedded)",
}


def records(run: Path) -> list[dict]:
    """The record of every stage that lies in the run, each once."""
    table = tables.stages(run)
    return [folders.record(folder) for folder in dict.fromkeys(table["folder"])]


def facts(run: Path, found: dict) -> dict[str, str]:
    """{"Student": …, "Oracle": …, "Judge": …, "Data": …, "Rows": …, "Gain": …, "Cost": …, "Time": …}; what a run has nothing of is left out."""
    told, gains = records(run), scores.gains(found)
    every = {
        "Student": " · ".join(filter(None, [_student(told), _size(run)])),
        "Oracle": _names(told, "oracle"),
        "Judge": judges(run, told),
        "Data": _data(told),
        "Rows": _rows(found),
        "Gain": "\n".join(gains),
        "Scores": "" if gains else "\n".join(scores.told(found)),
        "Cost": cost(found),
        "Time": f"{pd.DataFrame(told)['seconds'].sum() / 60:,.1f} minutes in {len(told)} stage{'s' * (len(told) > 1)}",
    }
    return {name: text for name, text in every.items() if text}


def values(told: Iterable[dict], name: str) -> list[str]:
    """What a parameter was in any of the stages that have it, where it was not empty."""
    found = (record["parameters"].get(name) for record in told)
    return list(dict.fromkeys(str(value) for value in found if value not in (None, "", [], 0)))


def judges(run: Path, told: list[dict]) -> str:
    """Who judged what, and whether an evaluation was judged by who had taught or chosen: "gpt-4: training, MT-Bench. gpt-4 also taught …"."""
    judging = [of["parameters"] for of in told if of["name"].startswith("tapir/2_oracle_judging")]
    named = {"training": {of["judge_model"] or of["oracle"] for of in judging}}
    named |= {name: _evaluators(run, f"evaluation/{file}") for name, file in FILES.items()}
    each = sorted(set().union(*named.values()))
    said = [
        f"{EMBEDDED.get(who, who)}: {', '.join(what for what in named if who in named[what])}" for who in each
    ]
    teachers = {name for of in judging for name in (of["oracle"], of["judge_model"]) if name}
    same = teachers & (set().union(*(named[name] for name in FILES)) - {"exact"})
    warning = (
        f". {', '.join(sorted(same))} also taught or chose the rows: it judges its own work" if same else ""
    )
    return "; ".join(said) + warning


def cost(found: dict) -> str:
    """Oracle calls, those that the ledger answered, verdicts that were not read, and money."""
    oracle = found.get("oracle") or {}
    if not oracle.get("calls") and not oracle.get("cached"):
        return "no oracle call"
    said = f"{oracle['calls']:,} oracle calls, {oracle['cached']:,} more answered by the ledger; USD {oracle['usd']:,.2f}"
    return f"{said}; {oracle['unread']:,} verdicts unread, {oracle['cut']:,} cut"


def _evaluators(run: Path, notebook: str) -> set[str]:
    found = (folders.read_json(folder / JUDGES) or {} for folder in tables.places(run, notebook).values())
    return {name for of in found for name in of.get("judges", ())}


def _names(told: list[dict], name: str) -> str:
    return ", ".join(EMBEDDED.get(value, value) for value in values(told, name))


def _student(told: list[dict]) -> str:
    """Who was taught or asked; where the responses were recorded, the files that hold them."""
    asked = [of for of in told if not any(of["parameters"].get(name) for name in RECORDED)]
    files = [value for name in RECORDED for value in values(told, name)]
    return ", ".join(
        filter(None, [_names(asked, "student"), *(f"responses recorded in {it}" for it in files)])
    )


def _data(told: list[dict]) -> str:
    sources = values(told, "source") + values(told, "task")
    return ", ".join(EMBEDDED.get(value, Path(value).name if "/" in value else value) for value in sources)


def _rows(found: dict) -> str:
    """Rows kept of the corpus, and those that each arm's trainings took in all; of a study's main arms."""
    metrics = {arm: found["arms"][arm]["metrics"] for arm in tables.compared(found, "primary")}
    kept = {of["corpus.kept"] for of in metrics.values() if "corpus.kept" in of}
    taught = {arm: sum(of[name] for name in of if TAUGHT.fullmatch(name)) for arm, of in metrics.items()}
    said = [f"a corpus of {', '.join(f'{n:,.0f}' for n in sorted(kept))}"] if kept else []
    each = " · ".join(f"{arm} {rows:,.0f}" for arm, rows in taught.items() if rows)
    return "\n".join(said + ([f"taught, in all rounds: {each}"] if each else []))


def _size(run: Path) -> str:
    """Parameters of a student that the run trained."""
    from safetensors import safe_open

    for folder in tables.stages(run)["folder"]:
        files = sorted(folder.glob("student/*.safetensors"))
        if files:
            total = 0
            for path in files:
                with safe_open(path, "numpy") as weights:
                    names = weights.keys()
                    total += sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
            return f"{total / 1e9:.1f} B parameters" if total >= 1e9 else f"{total / 1e6:.1f} M parameters"
    return ""
