"""curator's own way through a list of prompts: URL, calls at once and a folder are told, the prompts come by standard input."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

QUIET = {
    "TELEMETRY_ENABLED": "false",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "true",
}
UNLIMITED = 10**9  # a minute: curator would keep to the limits of a small account where a server names none


def main(url: str, at_once: int, prompts: list[str], folder: str) -> None:
    encodings = (
        Path(find_spec("litellm").origin).parent / "litellm_core_utils/tokenizers"
    )  # or it would download one
    here = {
        "CURATOR_CACHE_DIR": folder,
        "CURATOR_DISABLE_CACHE": "true",
        "TIKTOKEN_CACHE_DIR": str(encodings),
    }
    os.environ.update(QUIET | here)
    from bespokelabs import curator  # reads the environment when it is imported

    limits = {"max_requests_per_minute": UNLIMITED, "max_tokens_per_minute": UNLIMITED}
    params = {"base_url": url, "api_key": "none", "max_concurrent_requests": at_once, **limits}
    curator.LLM(model_name="m", backend="openai", backend_params=params)(prompts)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.load(sys.stdin), sys.argv[3])
