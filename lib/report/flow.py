"""The way of the rows through a run: what each stage was given, what it did, how many were left."""

import string
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lib import files
from lib.report import tables
from lib.runner import folders

# by notebook: its title, what passes into it, and what it does. {names} are metrics, parameters and `file rows`; a phrase that one is lacking for
# is left out
STEPS = {
    "tapir/1_data_selection": (
        "Data selection",
        ["{corpus.loaded:,} rows of {source}"],
        [
            "{corpus.bad_rows:,} bad rows left out",
            "{corpus.exact_repeats:,} repeats dropped",
            "{corpus.near_duplicates:,} near-duplicates dropped",
            "{corpus.overlap_with_benchmarks:,} dropped for overlap with benchmarks",
            "{corpus.kept:,} kept",
        ],
    ),
    "tapir/2_oracle_judging": (
        "Oracle judging",
        ["{judging.rows:,} rows"],
        [
            "student and oracle respond, {oracle.calls:,} oracle calls",
            "{judging.share_hard_2:.0%} have an MFD of 2 or more",
        ],
    ),
    "tapir/3_refinement": (
        "Refinement",
        ["{pool.selected:,} rows selected by {selection}"],
        ["{pool.expanded:,} expanded, {pool.kept:,} refined", "{pool.rows:,} in the pool"],
    ),
    "tapir/4_training": (
        "Training, round {round}",
        ["{training.rows:,} rows", "{training.pool_share_of_rows:.0%} from the pool"],
        ["{training.response_tokens:,} response tokens, {training.steps:,} steps"],
    ),
    "self_guide/1_input_generation": (
        "Input generation",
        ["the untaught student, {self_guide.inputs.asked:,} prompts"],
        ["{self_guide.inputs.kept:,} inputs kept by the filters"],
    ),
    "self_guide/2_output_generation": (
        "Output generation",
        ["{self_guide.pairs.labelled:,} inputs"],
        ["{self_guide.pairs.kept:,} pairs that the student agrees on with itself"],
    ),
    "self_guide/3_training": (
        "Training on its own pairs",
        ["{self_guide.training.self_guide.rows:,} pairs"],
        ["loss {self_guide.training.self_guide.loss:.2f}"],
    ),
    "evaluation/gym": (
        "Embedded world",
        ["{gym.n:,} instances of the {split} split"],
        ["accuracy {gym.accuracy:.1%}"],
    ),
    "evaluation/held_out_loss": (
        "Held-out loss",
        ["{held_out.rows:,} rows"],
        ["{held_out.bits_per_byte:.3f} bits per byte"],
    ),
    "evaluation/alpaca_eval": (
        "AlpacaEval 2",
        ["{alpaca_eval.n:,} of {alpaca_eval.verdicts:,} verdicts read"],
        [
            "win rate {alpaca_eval.win_rate:.1f}\u00a0%",
            "length-controlled {alpaca_eval.lc_win_rate:.1f}\u00a0%",
        ],
    ),
    "evaluation/mt_bench": (
        "MT-Bench",
        ["{mt_bench.n:,} of {mt_bench.verdicts:,} verdicts read"],
        ["{mt_bench.score:.2f} of 10"],
    ),
    "evaluation/ifeval": ("IFEval", ["{ifeval.n:,} prompts"], ["{ifeval.prompt_strict:.1%} followed"]),
    "evaluation/natural_instructions": (
        "The target task",
        ["{ni.n:,} instances"],
        ["{ni.exact_match:.1%} right", "ROUGE-L {ni.rouge_l:.1%}"],
    ),
}


EVALUATION = "Evaluation"
DULL = (
    "corpus.",
    "training.pool_share",
    "oracle.calls",
)  # beginnings of metrics that are not worth a word at zero


@dataclass(frozen=True)
class Step:
    """A stage in the flow: what passes into it, its title, what it says, and its page's anchor."""

    passed: str
    title: str
    says: tuple[str, ...]
    anchor: str


def flow(run: Path, arms: list[str]) -> tuple[list[Step], dict[str, list[Step]]]:
    """The stages that all of these arms share, from the first on, and what each goes through alone; of the first seed."""
    table = tables.stages(run)
    table = table[(table["seed"] == table["seed"].min()) & table["arm"].isin(arms)]
    ways = {arm: list(table[table["arm"] == arm].itertuples()) for arm in arms}
    shared = 0
    for together in zip(*ways.values(), strict=False):
        if len({row.folder for row in together}) > 1:
            break
        shared += 1
    trunk = _steps([row.folder for row in next(iter(ways.values()))[:shared]], run)
    return trunk, {arm: _steps([row.folder for row in rows[shared:]], run) for arm, rows in ways.items()}


def anchor(folder: Path, run: Path) -> str:
    """What a stage's place on the page is called."""
    return folder.relative_to(run).as_posix().replace("/", "-").replace("@", "-")


def _steps(stages: list[Path], run: Path) -> list[Step]:
    """Stages in their order; evaluations, which read one student and pass nothing on, share a step."""
    found: list[Step] = []
    for folder in stages:
        one = step(folder, run)
        if folders.record(folder)["name"].startswith("evaluation/"):
            line = f"{one.title}: {', '.join(filter(None, [*one.says, one.passed]))}"
            together = bool(found) and found[-1].title == EVALUATION
            before = found.pop().says if together else ()
            one = Step("the student", EVALUATION, (*before, line), one.anchor)
        found.append(one)
    return found


def step(folder: Path, run: Path) -> Step:
    """One stage, from its record and metrics."""
    record = folders.record(folder)
    notebook, _, number = record["name"].partition("@")
    title, passed, says = STEPS.get(notebook, (notebook, [], []))
    known = record["parameters"] | _metrics(folder, number) | _counts(folder) | {"round": number}
    told = tuple(filter(None, (_filled(phrase, known) for phrase in says)))
    if notebook == "tapir/4_training" and number == "0":
        title, passed = "Warm-up", ["{training.rows:,} rows of the corpus"]
    if tables.stands_in(record):
        title = f"Stand-in for {title}"
    came = ", ".join(filter(None, (_filled(phrase, known) for phrase in passed)))
    return Step(came, _filled(title, known) or notebook, told, anchor(folder, run))


def _metrics(folder: Path, number: str) -> dict[str, float]:
    """A stage's metrics, those that carry their round in the name without it; what is null is not known."""
    found = files.read_json(folder / "metrics.json") or {}
    named = {
        name.replace(f".round_{number}.", ".").removesuffix(f"_round_{number}"): value
        for name, value in found.items()
    }
    for benchmark in ("alpaca_eval", "mt_bench"):
        if f"{benchmark}.n" in named:
            counts = (named.get(f"{benchmark}.{name}") or 0 for name in ("n", "unread", "cut", "missing"))
            named[f"{benchmark}.verdicts"] = sum(counts)
    return {
        name: value
        for name, value in named.items()
        if value is not None and (value or not name.startswith(DULL))
    }


def _counts(folder: Path) -> dict[str, int]:
    """{"<file> rows": number} of a stage's Parquet files; one that cannot be read has none."""
    counts = {}
    for path in folder.glob("*.parquet"):
        with suppress(pa.ArrowInvalid):
            counts[f"{path.stem} rows"] = pq.read_metadata(path).num_rows
    return counts


class _Known(string.Formatter):
    """Names with dots and spaces are names, not attributes."""

    def get_field(self, name, args, kwargs):
        return kwargs[name], name


def _filled(phrase: str, known: dict) -> str:
    try:
        return _Known().vformat(phrase, (), known)
    except (KeyError, ValueError):
        return ""
