"""distilabel's own way through a list of prompts: URL, calls at once and a folder are told, the prompts come by standard input."""

import json
import os
import sys

os.environ["DISTILABEL_LOG_LEVEL"] = "WARNING"  # else it shows every call, which takes longer than the call

from distilabel.models import OpenAILLM  # noqa: E402
from distilabel.pipeline import Pipeline  # noqa: E402
from distilabel.steps import LoadDataFromDicts  # noqa: E402
from distilabel.steps.tasks import TextGeneration  # noqa: E402


def main(url: str, at_once: int, prompts: list[str], folder: str) -> None:
    with Pipeline(cache_dir=folder) as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": text} for text in prompts], batch_size=at_once)
        llm = OpenAILLM(model="m", base_url=url, api_key="none")
        load >> TextGeneration(llm=llm, input_batch_size=at_once)  # a batch is what it asks at once
    pipeline.run(use_cache=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.load(sys.stdin), sys.argv[3])
