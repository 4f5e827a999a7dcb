"""The oracle and the judges that a notebook's parameters name: the embedded one, or a model behind a URL."""

from collections.abc import Iterable

from lib import models, paths
from lib.gym.oracle import ExactOracle


def choose(stage, labels: Iterable[str], unfit_judge: str = ""):
    """Return the oracle that a stage's parameters name: an ExactOracle, or an LLMOracle.

    `labels` are the taxonomy's tasks; `unfit_judge` is what to do where the first verdicts do not depend on
    the responses, refuse or warn.
    """
    values = stage.parameters
    if values["oracle"] == "exact":
        return ExactOracle(seed=values["seed"] * 1000 + values["round"])
    from lib.oracle import LLMOracle

    return LLMOracle(
        _connect(stage, values["oracle"]),
        _connect(stage, values["judge"]) if values["judge"] else None,
        tuple(labels),
        max_tokens=values["oracle_max_tokens"],
        judge_scores=values["judge_scores"],
        unfit_judge=unfit_judge,
        report=stage.report_progress,
    )


def asked_judge(stage):
    """Return the judge that is compared with recorded verdicts; None where its own are recorded."""
    values = stage.parameters
    if paths.recorded_file(values["judge"]):
        return None
    if values["judge"] == "exact":
        return ExactOracle(seed=1)  # another draw than the recorded verdicts'
    from lib.oracle import LLMOracle

    backend = _connect(stage, values["judge"])
    return LLMOracle(backend, judge_scores=values["judge_scores"], report=stage.report_progress)


def benchmark_judge(stage):
    """Return the backend of a benchmark's judge; None where it is exact, or its verdicts are recorded."""
    values = stage.parameters
    if values["benchmark_judge"] == "exact" or values.get("annotations") or values.get("judgments"):
        return None
    return _connect(stage, stage.parameters["benchmark_judge"])


def _connect(stage, model: str):
    """Connect to a model for the calls of this stage; the budget is the run's, and 0 is none."""
    name = f"{stage.name} · {stage.arm} · s{stage.seed}"
    budget_usd = stage.parameters["budget_usd"] or None
    return models.connect(model, run=stage.run, stage=name, budget_usd=budget_usd)
