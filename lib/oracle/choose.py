"""The oracle that a notebook's parameters name: the embedded one, or a model behind a URL."""

from pathlib import Path

from lib import paths
from lib.gym.oracle import ExactOracle
from lib.oracle.chat import Endpoint
from lib.oracle.ledger import Ledger
from lib.oracle.llm import LLMOracle

_ledgers: dict[tuple[Path, bool], Ledger] = {}  # this process holds each open once


def choose(
    oracle: str,
    embedded: dict,
    run: str,
    labels: list[str],
    url: str = "",
    judge_model: str = "",
    budget_usd: float = 0.0,
    ledger: str = "outputs/ledger.sqlite",
    ledger_only: bool = False,
    **how,
) -> ExactOracle | LLMOracle:
    """ "exact" for the embedded oracle with the settings `embedded`, else the model of that name at `url`.

    `how` goes to LLMOracle. A budget of 0 is none; it is the run's, whatever model is asked.
    """
    if oracle == "exact":
        return ExactOracle(**embedded)
    kept = _ledger(paths.ROOT / paths.expand(ledger), ledger_only)
    common = {"url": url or None, "run": run, "budget_usd": budget_usd or None, "ledger_only": ledger_only}
    asked = Endpoint(oracle, kept, **common)
    judge = Endpoint(judge_model, kept, **common) if judge_model else asked
    return LLMOracle(asked, judge, tuple(labels), **how)


def _ledger(path: Path, read_only: bool) -> Ledger:
    if (path, read_only) not in _ledgers:
        _ledgers[path, read_only] = Ledger(path, read_only)
    return _ledgers[path, read_only]
