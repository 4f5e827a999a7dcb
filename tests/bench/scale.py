"""What TAPIR costs at size, by formula: the tables of SCALE.md. `PYTHONPATH=tests python -m bench.scale`.

Everything that is not a formula stands here, with its source.
"""

import math

import yaml

from lib import paths
from lib.oracle import prices

# tokens of a row, at four characters each, in public files: GPT-4-LLM's 1,095 rows (77 and 546 characters), Alpaca's (79 and 304)
ASKED, TOLD, CORPUS = 20, 137, 76
TEMPLATES = {
    "classify": 50,
    "judge": 154,
    "expand": 134,
    "refine": 95,
    "answer": 0,
}  # tokens of params/prompts
REPLIES = {"classify": 5, "judge": 150, "expand": ASKED, "refine": TOLD, "answer": TOLD}
HARD = 0.25  # share of the judged rows, assumed: it is what a run finds out
ROWS = (52_000, 10_000_000)
ORACLES = ("gpt-4.1-nano", "gpt-4.1-mini", "gpt-4.1")
# students: parameters, trained and generated tokens a second and GPU, GPUs that hold the training, and where the speeds are from
STUDENTS = {
    "0.5B": (0.5e9, 29_115, 2_685, 1),  # both measured: bench.gpu on an H200
    "7B": (
        6.7e9,
        6_511,
        9_193,
        1,
    ),  # taught: bench.gpu; generated: TensorRT-LLM 0.5.0's performance page, H100, FP8
    "70B": (
        69e9,
        632,
        3_317 / 4,
        16,
    ),  # taught: the 7B's by parameters, not measured; generated: the same page, four H100
}
BYTES_A_CALL = 4_200  # of the ledger: measured on 20,000 calls of 300 tokens and replies of 140


def calls(rows: int, settings: dict) -> dict[str, int]:
    """Calls of the oracle and the judge, by purpose, with params/tapir.yaml's proportions."""
    pool = rows * settings["pool_rows"] // ROWS[0]
    new = max(0, pool - int(HARD * rows))
    judged = {
        "answer": rows + new,
        "classify": settings["labelled_rows"] + new,
        "expand": new,
        "refine": pool,
    }
    return judged | {"judge": 2 * rows + 2 * pool}


def tokens(asked: dict[str, int]) -> tuple[float, float]:
    """Prompt and completion tokens of so many calls."""
    shown = {"answer": 0, "classify": 0, "expand": 0, "refine": TOLD, "judge": 2 * TOLD}
    given = sum(n * (ASKED + shown[purpose] + TEMPLATES[purpose]) for purpose, n in asked.items())
    return given, sum(n * REPLIES[purpose] for purpose, n in asked.items())


def taught(rows: int, settings: dict) -> float:
    """Tokens that a student reads in training: the warm-up on the corpus, then the rounds."""
    in_round = rows * settings["round_rows"] // ROWS[0]
    return settings["epochs"] * (rows * (ASKED + CORPUS) + settings["rounds"] * in_round * (ASKED + TOLD))


def short(n: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{letter}"
    return f"{n:.3g}"


def money(usd: float) -> str:
    return f"{usd:,.0f}" if usd < 1e4 else f"{round(usd, 1 - int(math.log10(usd))):,.0f}"


def main() -> None:
    settings = yaml.safe_load((paths.ROOT / "params/tapir.yaml").read_text())["params"]
    print(
        "| rows | calls | tokens in, out | " + " | ".join(f"{name}, USD" for name in ORACLES) + " | ledger |"
    )
    print("| --: | --: | --- |" + " --: |" * (len(ORACLES) + 1))
    for rows in ROWS:
        asked = calls(rows, settings)
        given, said = tokens(asked)
        costs = [money(prices.usd(prices.of(name), given, said)) for name in ORACLES]
        n = sum(asked.values())
        print(
            f"| {rows:,} | {short(n)} | {short(given)}, {short(said)} | {' | '.join(costs)} | {n * BYTES_A_CALL / 1e9:,.0f} GB |"
        )
    print(
        "\n| rows | student | generated once | GPU hours | taught | GPU hours | GPUs at least | students on disk |"
    )
    print("| --: | --- | --: | --: | --: | --: | --: | --: |")
    for rows in ROWS:
        for name, (weights, teaches, makes, gpus) in STUDENTS.items():
            made, read = rows * TOLD, taught(rows, settings)
            hours = f"{short(made)} | {short(made / makes / 3600)} | {short(read)} | {short(read / teaches / 3600)}"
            disk = 4 * weights * (settings["rounds"] + 1) / 1e9
            print(f"| {rows:,} | {name} | {hours} | {gpus} | {disk:,.0f} GB |")


if __name__ == "__main__":
    main()
