"""Declare the benchmarks: each one's notebook, name and metrics."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

JUDGES = "judges.json"  # names the judge of an evaluation
# parameters that replace a student's answers
RECORDED = ("model_outputs", "answers", "judgments", "responses")
WITHOUT_METRIC = ("tapir/", "self_guide/", "report", "0_start_here")  # notebooks that score no arm


@dataclass(frozen=True)
class Metric:
    """One metric, and how its values are shown."""

    name: str
    label: str  # heading of a column, with the unit
    scale: float = 1  # from the value to the unit that is shown
    decimals: int = 1
    unit: str = "points"  # of a difference
    lower_is_better: bool = False


@dataclass(frozen=True)
class Benchmark:
    """One benchmark; a study is summed up by the first of its headline metrics."""

    notebook: str
    name: str
    headlines: tuple[Metric, ...]
    others: str = ""  # ends of further metrics' names, between spaces
    counted: bool = False  # writes on how many verdicts or prompts its score rests
    stand_in: tuple[str, object] | None = None  # the parameter's value that asks the embedded world instead

    @property
    def prefix(self) -> str:
        """The first part of its metrics' names."""
        return self.headlines[0].name.partition(".")[0]

    def is_stand_in(self, values: dict) -> bool:
        """Say whether these parameters ask the embedded world in place of the benchmark."""
        return self.stand_in is not None and values.get(self.stand_in[0]) == self.stand_in[1]

    @property
    def metrics(self) -> dict[str, Metric]:
        """All metrics that can be compared, by name."""
        first = self.headlines[0]
        percent = ", %" if first.label.endswith("%") else ""
        others = [
            replace(first, name=f"{self.prefix}.{end}", label=f"{self.name}, {end}{percent}")
            for end in self.others.split()
        ]
        return {metric.name: metric for metric in (*self.headlines, *others)}


GYM = Metric("gym.accuracy", "embedded world, accuracy, %", 100)
WIN_RATE = Metric("alpaca_eval.win_rate", "AlpacaEval 2, win rate, %")
LC_WIN_RATE = Metric("alpaca_eval.lc_win_rate", "length-controlled, %")
MT_BENCH = Metric("mt_bench.score", "MT-Bench, 1 to 10", decimals=2, unit="of ten")
IFEVAL = Metric("ifeval.prompt_strict", "IFEval, prompts followed, %", 100)
EXACT_MATCH = Metric("ni.exact_match", "target task, exact match, %", 100)
ROUGE_L = Metric("ni.rouge_l", "target task, ROUGE-L, %", 100)
LOSS_LABEL, BITS = "held-out loss, bits per byte (lower is better)", "bits per byte"
LOSS = Metric("held_out.bits_per_byte", LOSS_LABEL, decimals=3, unit=BITS, lower_is_better=True)
SAME_WINNER = Metric("judge.winner_agreement", "judge, same winner as recorded, %", 100)
KAPPA = Metric("judge.kappa", "judge, κ with recorded winners", decimals=2, unit="")

# fmt: off
BENCHMARKS = [
    Benchmark("evaluation/gym", "embedded world", (GYM,),
              "corpus_mix unseen_level unseen_family unseen_phrasing forgetting"),
    Benchmark("evaluation/alpaca_eval", "AlpacaEval 2", (WIN_RATE, LC_WIN_RATE), "discrete_win_rate",
              counted=True, stand_in=("annotator", "exact")),
    Benchmark("evaluation/mt_bench", "MT-Bench", (MT_BENCH,),
              "turn_1 turn_2 writing roleplay reasoning math coding extraction stem humanities",
              counted=True, stand_in=("questions", "")),
    Benchmark("evaluation/ifeval", "IFEval", (IFEVAL,), "prompt_loose instruction_strict instruction_loose",
              counted=True, stand_in=("prompts", "")),
    Benchmark("evaluation/natural_instructions", "target task", (EXACT_MATCH, ROUGE_L),
              "exact_match_substring rouge_l_char parsable"),
    Benchmark("evaluation/held_out_loss", "held-out loss", (LOSS,)),
    Benchmark("evaluation/judge", "judge", (SAME_WINNER, KAPPA), "order_agreement", stand_in=("pairs", [])),
]
# fmt: on


def headlines() -> dict[str, Metric]:
    """Return the metrics that can sum up a study, by name, the most telling first."""
    return {metric.name: metric for each in BENCHMARKS for metric in each.headlines}


def metric(name: str) -> Metric:
    """Return a metric by name; an undeclared one has its name alone."""
    declared = (each.metrics[name] for each in BENCHMARKS if name in each.metrics)
    return next(declared, Metric(name, name, decimals=3, unit=""))


def benchmark(notebook: str) -> Benchmark | None:
    """Return the benchmark that a notebook runs."""
    return next((each for each in BENCHMARKS if each.notebook == notebook), None)


def writable(notebooks: Iterable[str]) -> list[str]:
    """Return the metrics that these notebooks can write."""
    return [name for each in BENCHMARKS if each.notebook in notebooks for name in each.metrics]


def is_own(notebook: str) -> bool:
    """Say whether a notebook is the reader's own, of unknown metrics."""
    return not notebook.startswith(WITHOUT_METRIC) and benchmark(notebook) is None
