"""What TAPIR costs at size, by formula: the tables of SCALE.md. `PYTHONPATH=tests python -m bench.scale`.

Everything that is not a formula stands here, with its source.
"""

import math
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from bench import ledger as ledgers
from bench.lines import markdown

from lib import paths, prompts
from lib.models import catalog
from lib.models.catalog import Model
from lib.models.ledger import Ledger
from lib.models.server import ServerBackend
from lib.tapir import tasks

ROWS = (52_000, 10_000_000)
ORACLES = ("gpt-3.5-turbo", "gpt-4.1-nano", "gpt-4.1-mini", "gpt-4.1")
# tokens of a row, at four characters each, in public files: GPT-4-LLM's 1,095 rows (77 and 546 characters), Alpaca's (79 and 304)
ASKED, TOLD, CORPUS = 20, 137, 76
REPLIES = {"classify": 5, "judge": 150, "expand": ASKED, "refine": TOLD, "answer": TOLD}  # tokens
HARD = 0.25  # share of the judged rows, assumed: it is what a run finds out
SAMPLE = 2000  # calls that a ledger is filled with, to see how large it gets
# bytes of a parameter: in float32; with gradient and two moments; as a checkpoint, of which there are two while the second is written
PARAMETER, HELD, SAVED = 4, 16, 12
GPU_GB = 80
WORDS = ("student", "from")  # columns that hold no numbers


@dataclass(frozen=True)
class Student:
    name: str
    parameters: float
    taught: float  # tokens a second on one GPU
    taught_from: str
    generated: float  # tokens a second on one GPU
    generated_from: str


STUDENTS = (
    Student(
        "0.5B (Qwen2.5's shape)",
        0.5e9,
        23_400,
        "measured, H200: all weights, packed, 32 rows at a time",
        2_685,
        "measured, H200: continuous batching by transformers (`engine: local`)",
    ),
    Student(
        "7B (Llama 2's shape)",
        6.7e9,
        5_230,
        "measured, H200: the same, with recomputed activations",
        9_193,
        "cited: TensorRT-LLM 0.5.0, H100, FP8, 64 at once (`student: name@url`)",
    ),
    Student("70B", 69e9, 508, "the 7B's, by parameters", 829, "cited: the same page, 3,317 on four H100"),
)


def calls(rows: int, settings: dict) -> dict[str, int]:
    """Calls of oracle and judge, by purpose, with params/tapir.yaml's proportions."""
    pool = rows * settings["pool_rows"] // ROWS[0]
    new = max(0, pool - int(HARD * rows))
    named = tasks.load_taxonomy(settings["tasks"]).values()
    refined = round(pool * sum(task.share for task in named if task.refine != "none"))
    return {
        "answer": rows + new,
        "classify": settings["labelled_rows"] + new,
        "expand": new,
        "refine": refined,
        "judge": 2 * rows + 2 * refined,
    }


def tokens(asked: dict[str, int], taxonomy: str) -> tuple[float, float]:
    """Prompt and completion tokens of so many calls."""
    shown = {"answer": 0, "classify": 0, "expand": 0, "refine": TOLD, "judge": 2 * TOLD}
    given = sum(n * (ASKED + shown[it] + template(it, taxonomy)) for it, n in asked.items())
    return given, sum(n * REPLIES[it] for it, n in asked.items())


@cache
def template(purpose: str, taxonomy: str) -> float:
    """Tokens of a prompt as it stands in params/prompts, the labels to choose from included."""
    if purpose == "answer":
        return 0
    text = prompts.text("refine_worked" if purpose == "refine" else purpose)
    labels = prompts.listed(tasks.load_taxonomy(taxonomy)) if purpose == "classify" else ""
    return len(text + labels) / catalog.CHARACTERS_A_TOKEN


def bytes_a_call(given: float, said: float) -> float:
    """Of a ledger with calls of so many tokens."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "sample.sqlite")
        long = "word" * round(given)
        asked = [[{"role": "user", "content": f"{long} {i}"}] for i in range(SAMPLE)]
        ledgers.fill(
            ServerBackend(Model("m", ledgers.URL), ledger, ledger_only=True), asked, "word" * round(said)
        )
        ledger.close()
        return ledger.path.stat().st_size / SAMPLE


def read_tokens(rows: int, settings: dict) -> float:
    """Tokens that a student reads in training: the warm-up on the corpus, then the rounds."""
    in_round = rows * settings["round_rows"] // ROWS[0]
    return settings["epochs"] * (rows * (ASKED + CORPUS) + settings["rounds"] * in_round * (ASKED + TOLD))


def short(n: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{letter}"
    return f"{n:.3g}"


def rounded(n: float, digits: int = 3) -> str:
    """So many digits that count; two below ten."""
    return f"{round(n, digits - 1 - int(math.log10(n))):,.0f}" if n >= 10 else f"{n:.2g}"


def of_the_oracle(settings: dict) -> list[list]:
    made = [["rows", "calls", "tokens in, out", *(f"{name}, USD" for name in ORACLES), "ledger"]]
    for rows in ROWS:
        asked = calls(rows, settings)
        given, said = tokens(asked, settings["tasks"])
        n = sum(asked.values())
        costs = [rounded(catalog.find(name).usd(given, said)) for name in ORACLES]
        size = n * bytes_a_call(given / n, said / n) / 1e9
        made.append(
            [f"{rows:,}", short(n), f"{short(given)}, {short(said)}", *costs, f"{rounded(size, 2)} GB"]
        )
    return made


def of_the_student(settings: dict) -> list[list]:
    made = [["rows", "student", "generated once", "GPU hours", "taught", "GPU hours"]]
    for rows in ROWS:
        for it in STUDENTS:
            said, read = rows * TOLD, read_tokens(rows, settings)
            hours = [rounded(said / it.generated / 3600), short(read), rounded(read / it.taught / 3600)]
            made.append([f"{rows:,}", it.name.split()[0], short(said), *hours])
    return made


def of_the_machine(settings: dict) -> list[list]:
    made = [
        [
            "student",
            "held while it is taught",
            f"GPUs of {GPU_GB} GB for that",
            "on disk",
            "besides, meanwhile",
        ]
    ]
    for it in STUDENTS:
        held, disk, saved = (
            n * it.parameters / 1e9 for n in (HELD, PARAMETER * (settings["rounds"] + 1), 2 * SAVED)
        )
        gpus = math.ceil(held / GPU_GB)
        sizes = [f"{rounded(n)} GB" for n in (held, disk, saved)]
        made.append([it.name.split()[0], sizes[0], gpus, *sizes[1:]])
    return made


def speeds() -> list[list]:
    made = [["student", "taught, tokens/s", "from", "generated, tokens/s", "from"]]
    for it in STUDENTS:
        made.append([it.name, f"{it.taught:,}", it.taught_from, f"{it.generated:,}", it.generated_from])
    return made


def tables() -> list[str]:
    settings = yaml.safe_load((paths.ROOT / "params/tapir.yaml").read_text())["params"]
    made = (of_the_oracle(settings), of_the_student(settings), speeds(), of_the_machine(settings))
    return [_table(rows) for rows in made]


def _table(rows: list[list]) -> str:
    return markdown([rows[0], ["---" if name in WORDS else "--:" for name in rows[0]], *rows[1:]])


if __name__ == "__main__":
    print("\n\n".join(tables()))
