"""The oracle and the judges that a notebook's parameters name: the embedded one, or a model behind a URL."""

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from lib import paths
from lib.gym.oracle import ExactOracle

# the environment variables with the keys of endpoints that are not OpenAI's; see transport.key_variable
ORACLE_KEY, JUDGE_KEY, EVALUATION_KEY = "ORACLE_API_KEY", "JUDGE_API_KEY", "EVALUATION_API_KEY"

_ledgers: dict[tuple[Path, bool], object] = {}  # this process holds each open once


def choose(stage, labels: Iterable[str]):
    """Return the oracle that a stage's parameters name: an ExactOracle, or an LLMOracle.

    `labels` are the taxonomy's tasks. 0 means no budget and no limit. The budget is the run's.
    """
    told = stage.parameters
    if told["oracle"] == "exact":
        seed = told["seed"] * 1000 + told["round"]
        return ExactOracle(told["judge_noise"], told["oracle_error"], seed)
    from lib.models.chat import Endpoint
    from lib.oracle.llm import LLMOracle

    common = _common(stage)
    asked = Endpoint(told["oracle"], url=told["oracle_url"] or None, **common, key_from=ORACLE_KEY)
    judge = asked
    if told["judge_model"] or told["judge_url"]:
        url = told["judge_url"] or asked.url
        elsewhere = urlsplit(url).hostname != urlsplit(asked.url).hostname
        own = {"key_from": JUDGE_KEY if elsewhere or os.environ.get(JUDGE_KEY) else ORACLE_KEY}
        own |= {"batch": False} if elsewhere else {}  # another's host may have no batches
        judge = Endpoint(told["judge_model"] or told["oracle"], url=url, **common | own)
    return LLMOracle(
        asked,
        judge,
        tuple(labels),
        max_tokens=told["oracle_max_tokens"],
        judge_max_tokens=told["judge_max_tokens"],
        judge_scores=told["judge_scores"],
        unfit_judge=told.get("unfit_judge", ""),
        reasoning=told["reasoning"],
        report=stage.report_progress,
    )


def evaluator(stage, model: str):
    """Return the Endpoint that judges a benchmark: the stage's `evaluation_judge`, else `model`."""
    from lib.models.chat import Endpoint

    told = stage.parameters
    own = {"key_from": EVALUATION_KEY}
    own |= {"batch": False} if told["evaluation_url"] else {}  # another's host may have no batches
    return Endpoint(
        told["evaluation_judge"] or model, url=told["evaluation_url"] or None, **_common(stage) | own
    )


def _common(stage) -> dict:
    """What all endpoints of a stage have in common."""
    told = stage.parameters
    return {
        "ledger": _ledger(paths.ROOT / paths.expand(told["ledger"]), told["ledger_only"]),
        "run": told["run"],
        "stage": f"{stage.name} · {told['arm']} · s{told['seed']}",
        "batch": told["oracle_batch"],
        "ledger_only": told["ledger_only"],
        "concurrency": told["concurrency"],
        "timeout_s": told["timeout_s"],
    } | {name: told[name] or None for name in ("requests_per_minute", "tokens_per_minute", "budget_usd")}


def _ledger(path: Path, read_only: bool):
    from lib.models.ledger import Ledger

    if (path, read_only) not in _ledgers:
        _ledgers[path, read_only] = Ledger(path, read_only)
    return _ledgers[path, read_only]
