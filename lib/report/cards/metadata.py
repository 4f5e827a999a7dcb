"""The metadata at the head of a card, which the hub sorts and searches by."""

from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

from lib.report import tables
from lib.report.cards.facts import on_hub
from lib.report.cards.lineage import Evaluation
from lib.report.cards.texts import said
from lib.report.cards.wording import asked

SIZES = {
    "n<1K": 1e3,
    "1K<n<10K": 1e4,
    "10K<n<100K": 1e5,
    "100K<n<1M": 1e6,
    "1M<n<10M": 1e7,
    "10M<n<100M": 1e8,
}


def of_student(told: dict) -> ModelCardData:
    kind, name = told["base"]
    corpus = told["corpus"].partition(":")[0]
    results = [result for of in told["evaluations"] for result in _results(of)]
    return ModelCardData(
        model_name=said(told["name"]) if results else None,  # it belongs to them
        eval_results=results or None,
        base_model=name if kind == "hub" else None,
        datasets=[corpus] if corpus not in ("", "gym") and on_hub(corpus) else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        license=told["licence"] or "other",
        tags=[told["method"].lower()] if told["method"] else None,
    )


def of_rows(told: dict) -> DatasetCardData:
    """With the one file that is the data set: `datasets.load_dataset` reads no other in its folder."""
    return DatasetCardData(
        pretty_name=said(told["name"]),
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": told["file"]}]}],
        license=told["licence"] or "other",
        size_categories=[next((size for size, most in SIZES.items() if told["rows"].rows < most), "other")],
        task_categories=["text-generation"],
        tags=[told["method"].lower()],
    )


def _results(of: Evaluation) -> list[EvalResult]:
    short = of.step.notebook.rpartition("/")[2]
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="gym" if tables.stands_in(of.step.record) else short,
            dataset_name=asked(of.step),
            dataset_config=short,
            dataset_split=of.step.values.get("split"),
            metric_type=said(metric),
            metric_value=value,
            metric_name=f"{said(metric)}, 95 % interval {low:.4g} to {high:.4g}",
        )
        for metric, (value, low, high) in of.scores.items()
        if not metric.startswith("ni.gain_over.")  # what it has above others is no score of its own
    ]
