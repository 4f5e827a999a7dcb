"""The oracle that a notebook's parameters name: the embedded one, or a model behind a URL."""

from collections.abc import Iterable
from pathlib import Path

from lib import paths
from lib.gym.oracle import ExactOracle
from lib.runs import Stage

_ledgers: dict[tuple[Path, bool], object] = {}  # this process holds each open once


def choose(stage: Stage, labels: Iterable[str]):
    """An ExactOracle where the stage's parameter `oracle` is "exact", else an LLMOracle of that model at `oracle_url`.

    `labels` are the taxonomy's tasks. A budget of 0 is none; it is the run's, whatever model is asked.
    """
    told = stage.parameters
    if told["oracle"] == "exact":
        seed = told["seed"] * 1000 + told["round"]
        return ExactOracle(told["judge_noise"], told["oracle_error"], seed)
    from lib.oracle.chat import Endpoint  # the SDK takes a second to import: the embedded oracle needs none
    from lib.oracle.llm import LLMOracle

    common = {
        "ledger": _ledger(paths.ROOT / paths.expand(told["ledger"]), told["ledger_only"]),
        "url": told["oracle_url"] or None,
        "run": told["run"],
        "budget_usd": told["budget_usd"] or None,
        "ledger_only": told["ledger_only"],
    }
    asked = Endpoint(told["oracle"], **common)
    judge = Endpoint(told["judge_model"], **common) if told["judge_model"] else asked
    return LLMOracle(asked, judge, tuple(labels), report=stage.report_progress)


def _ledger(path: Path, read_only: bool):
    from lib.oracle.ledger import Ledger

    if (path, read_only) not in _ledgers:
        _ledgers[path, read_only] = Ledger(path, read_only)
    return _ledgers[path, read_only]
