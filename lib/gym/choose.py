"""The oracle and the judges that a notebook's parameters name: the embedded one, or a model behind a URL."""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from lib import paths
from lib.gym.oracle import ExactOracle

# the environment variables with the keys of endpoints that are not OpenAI's; see transport.key_variable
ORACLE_KEY, JUDGE_KEY, EVALUATION_KEY = "ORACLE_API_KEY", "JUDGE_API_KEY", "EVALUATION_API_KEY"


def choose(stage, labels: Iterable[str]):
    """Return the oracle that a stage's parameters name: an ExactOracle, or an LLMOracle.

    `labels` are the taxonomy's tasks. 0 means no budget and no limit. The budget is the run's.
    """
    values = stage.parameters
    if values["oracle"] == "exact":
        seed = values["seed"] * 1000 + values["round"]
        return ExactOracle(values["judge_noise"], values["oracle_error"], seed)
    from lib.models.chat import Endpoint
    from lib.oracle.llm import LLMOracle

    common = _common(stage)
    oracle = Endpoint(values["oracle"], url=values["oracle_url"] or None, **common, key_from=ORACLE_KEY)
    judge = oracle
    if values["judge_model"] or values["judge_url"]:
        url = values["judge_url"] or oracle.url
        elsewhere = urlsplit(url).hostname != urlsplit(oracle.url).hostname
        own = {"key_from": JUDGE_KEY if elsewhere or os.environ.get(JUDGE_KEY) else ORACLE_KEY}
        own |= {"batch": False} if elsewhere else {}  # another's host may have no batches
        judge = Endpoint(values["judge_model"] or values["oracle"], url=url, **common | own)
    return LLMOracle(
        oracle,
        judge,
        tuple(labels),
        max_tokens=values["oracle_max_tokens"],
        judge_max_tokens=values["judge_max_tokens"],
        judge_scores=values["judge_scores"],
        unfit_judge=values.get("unfit_judge", ""),
        reasoning=values["reasoning"],
        report=stage.report_progress,
    )


def evaluator(stage, model: str):
    """Return the Endpoint that judges a benchmark: the stage's `evaluation_judge`, else `model`."""
    from lib.models.chat import Endpoint

    values = stage.parameters
    own = {"key_from": EVALUATION_KEY}
    own |= {"batch": False} if values["evaluation_url"] else {}  # another's host may have no batches
    return Endpoint(
        values["evaluation_judge"] or model,
        url=values["evaluation_url"] or None,
        **_common(stage) | own,
    )


def _common(stage) -> dict:
    """What all endpoints of a stage have in common."""
    values = stage.parameters
    return {
        "ledger": _ledger(paths.ROOT / paths.expand(values["ledger"]), values["ledger_only"]),
        "run": values["run"],
        "stage": f"{stage.name} · {values['arm']} · s{values['seed']}",
        "batch": values["oracle_batch"],
        "ledger_only": values["ledger_only"],
        "concurrency": values["concurrency"],
        "timeout_s": values["timeout_s"],
    } | {name: values[name] or None for name in ("requests_per_minute", "tokens_per_minute", "budget_usd")}


@cache  # a process holds each ledger open once
def _ledger(path: Path, read_only: bool):
    from lib.models.ledger import Ledger

    return Ledger(path, read_only)
