"""What all tests share: one thread each, the longest files first, a project of its own, a browser."""

import functools
import http.server
import os
import shutil
import signal
import threading
import types

import pytest

# before torch is imported, and for kernels: two workers of two threads each get in each other's way
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # TRL imports bitsandbytes, which compiles at its import
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # results are compared to more digits than bfloat16 has
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C

# files that take longest, the longest first: a worker takes a file whole, and the last one must not be alone with it
LONGEST = (
    "test_instrument",  # to test_real_server: these are slow
    "test_cluster",
    "test_real_server",
    "test_notebooks",
    "test_llm_study",
    "test_run",
    "test_launch",
    "test_sft",
)

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# nothing that Chromium does of its own accord, and no sandbox, which root may not have
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def pytest_collection_modifyitems(items):
    position = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: position.get(item.path.stem, len(position)))


@pytest.fixture
def project(tmp_path, monkeypatch):
    from project import Project

    from lib import paths
    from lib.models import catalog

    monkeypatch.setattr(paths, "ROOT", tmp_path)
    catalog.listed.cache_clear()  # this project has no params/models.yaml
    monkeypatch.delenv("OUTPUTS", raising=False)
    monkeypatch.delenv("STAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    yield Project(tmp_path)
    catalog.listed.cache_clear()


@pytest.fixture(scope="module")
def forked_kernels():
    """Kernels that start with their imports made: for runs of our notebooks, not for projects with a lib of their own."""
    import forked
    from jupyter_client.provisioning import local_provisioner

    from lib.runner.execute import QUIET

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_provisioner, "launch_kernel", forked.Kernel)
        for name, value in QUIET.items():  # some are read at the import, or at the start
            patch.setenv(name, value)
        yield


@pytest.fixture
def site(tmp_path):
    """A web server: its `url`, the `folder` whose files it serves, and the paths of its `requests`."""
    folder, requests = tmp_path / "site", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *words):
            requests.append(self.path)

    served = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield types.SimpleNamespace(
            url=f"http://127.0.0.1:{server.server_port}", folder=folder, requests=requests
        )
        server.shutdown()


@pytest.fixture
def ledger(tmp_path):
    from lib.models.ledger import Ledger

    opened = Ledger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a small untrained student: to be copied, not to be changed."""
    import tiny

    return tiny.make(tmp_path_factory.mktemp("students") / "tiny")


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium, the one of this machine; where there is none, what asks for it is skipped."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not program:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # other tests can do without it

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()
