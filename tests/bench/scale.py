"""What TAPIR costs at size, by formula: the tables of docs/scale.md. `PYTHONPATH=tests python -m bench.scale`.

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
        7_300,
        "measured, H200: padded batches of 512, 256 tokens each (`engine: local`)",
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


def tokens(calls_by_purpose: dict[str, int], taxonomy: str) -> tuple[float, float]:
    """Prompt and completion tokens of so many calls."""
    shown = {"answer": 0, "classify": 0, "expand": 0, "refine": TOLD, "judge": 2 * TOLD}
    given = sum(
        n * (ASKED + shown[purpose] + template(purpose, taxonomy)) for purpose, n in calls_by_purpose.items()
    )
    return given, sum(n * REPLIES[purpose] for purpose, n in calls_by_purpose.items())


@cache
def template(purpose: str, taxonomy: str) -> float:
    """Tokens of a prompt as it stands in params/prompts, the labels to choose from included."""
    if purpose == "answer":
        return 0
    text = prompts.text("refine_worked" if purpose == "refine" else purpose)
    labels = prompts.listed(tasks.load_taxonomy(taxonomy)) if purpose == "classify" else ""
    return len(text + labels) / catalog.CHARACTERS_A_TOKEN


def bytes_a_call(prompt: float, completion: float) -> float:
    """Of a ledger with calls of so many tokens."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "sample.sqlite")
        long = "word" * round(prompt)
        requests = [[{"role": "user", "content": f"{long} {i}"}] for i in range(SAMPLE)]
        ledgers.fill(
            ServerBackend(Model("m", ledgers.URL), ledger, ledger_only=True),
            requests,
            "word" * round(completion),
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
    table = [["rows", "calls", "tokens in, out", *(f"{name}, USD" for name in ORACLES), "ledger"]]
    for rows in ROWS:
        calls_by_purpose = calls(rows, settings)
        prompt, completion = tokens(calls_by_purpose, settings["tasks"])
        n = sum(calls_by_purpose.values())
        costs = [rounded(catalog.find(name).usd(prompt, completion)) for name in ORACLES]
        size = n * bytes_a_call(prompt / n, completion / n) / 1e9
        table.append(
            [f"{rows:,}", short(n), f"{short(prompt)}, {short(completion)}", *costs, f"{rounded(size, 2)} GB"]
        )
    return table


def of_the_student(settings: dict) -> list[list]:
    table = [["rows", "student", "generated once", "GPU hours", "trained", "GPU hours"]]
    for rows in ROWS:
        for student in STUDENTS:
            completion, read = rows * TOLD, read_tokens(rows, settings)
            generating, teaching = completion / student.generated / 3600, read / student.taught / 3600
            line = [short(completion), rounded(generating), short(read), rounded(teaching)]
            table.append([f"{rows:,}", student.name.split()[0], *line])
    return table


def of_the_machine(settings: dict) -> list[list]:
    table = [
        [
            "student",
            "held in training",
            f"GPUs of {GPU_GB} GB for that",
            "on disk",
            "more during training",
        ]
    ]
    for student in STUDENTS:
        held, disk, saved = (
            n * student.parameters / 1e9 for n in (HELD, PARAMETER * (settings["rounds"] + 1), 2 * SAVED)
        )
        gpus = math.ceil(held / GPU_GB)
        sizes = [f"{rounded(n)} GB" for n in (held, disk, saved)]
        table.append([student.name.split()[0], sizes[0], gpus, *sizes[1:]])
    return table


def speeds() -> list[list]:
    table = [["student", "trained, tokens/s", "from", "generated, tokens/s", "from"]]
    for student in STUDENTS:
        taught, generated = f"{student.taught:,}", f"{student.generated:,}"
        table.append([student.name, taught, student.taught_from, generated, student.generated_from])
    return table


def tables() -> list[str]:
    settings = yaml.safe_load((paths.ROOT / "params/tapir.yaml").read_text())["params"]
    tables = of_the_oracle(settings), of_the_student(settings), speeds(), of_the_machine(settings)
    return [_table(rows) for rows in tables]


def _table(rows: list[list]) -> str:
    return markdown([rows[0], ["---" if name in WORDS else "--:" for name in rows[0]], *rows[1:]])


if __name__ == "__main__":
    print("\n\n".join(tables()))
