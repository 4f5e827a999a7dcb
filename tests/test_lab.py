"""Notebooks as an explorer meets them: in JupyterLab, started as `make lab` does, in a real browser.

What is opened is a copy of the notebooks, for JupyterLab saves them with their outputs.
"""

import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import nbformat
import pytest
from playwright.sync_api import expect

from lib import paths, records
from lib.gym import world

pytestmark = pytest.mark.slow
STARTED_S, RUN_S = 60, 300  # how long a start, and how long a notebook, may take at most
OWN = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")  # of Jupyter: neither read nor written are the user's
HERE = ("data:", "blob:")  # what a page makes itself
ERROR = "[data-mime-type='application/vnd.jupyter.stderr']"  # what cells say on stderr, and how they failed
IMAGES = ".jp-OutputArea-output img"
DRAWN = "images => images.map(it => it.complete && it.naturalWidth > 0)"
BATCHES, ROWS = 6, 360  # 64 rows a batch


class Lab(NamedTuple):
    """A running JupyterLab: its folder holds a copy of the notebooks, and outputs/."""

    folder: Path
    address: str
    token: str


@pytest.fixture
def lab(tmp_path):
    folder, token = tmp_path, secrets.token_hex()
    shutil.copytree(paths.ROOT / "notebooks", folder / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = re.search(r"\$\(PY\) -m (jupyter lab .*)", (paths.ROOT / "Makefile").read_text())[1]
    command = [
        sys.executable,
        "-m",
        *shlex.split(command),
        "--no-browser",
        f"--IdentityProvider.token={token}",
    ]
    command += [f"--port={port}", "--ServerApp.port_retries=0", *["--allow-root"] * (os.geteuid() == 0)]
    own = {f"JUPYTER_{name}": str(folder / name) for name in OWN} | {"IPYTHONDIR": str(folder / "ipython")}
    environment = os.environ | own | {"OUTPUTS": str(folder / "outputs")}
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield _answering(Lab(folder, f"http://127.0.0.1:{port}", token))
    finally:
        server.send_signal(signal.SIGTERM)  # it ends its kernels, too
        server.wait(30)


def _answering(lab: Lab) -> Lab:
    until = time.monotonic() + STARTED_S
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{lab.address}/api", timeout=5).close()
            return lab
        except OSError:
            time.sleep(0.2)
    raise TimeoutError((lab.folder / "log").read_text()[-2000:])


@pytest.fixture
def opened(chromium, lab):
    """Open a notebook, its kernel ready. Requests elsewhere and complaints of the browser fail a test."""
    tab, urls, complaints = chromium.new_page(viewport={"width": 1300, "height": 1000}), [], []
    tab.on("request", lambda request: urls.append(request.url))
    tab.on("websocket", lambda socket: urls.append(socket.url))
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))

    def open_notebook(name: str):
        tab.goto(f"{lab.address}/lab/tree/notebooks/{name}.ipynb?token={lab.token}")
        tab.get_by_text("| Idle").wait_for(timeout=1000 * STARTED_S)
        return tab

    yield open_notebook
    tab.close()
    assert {urlsplit(url).hostname for url in urls if not url.startswith(HERE)} == {"127.0.0.1"}
    assert complaints == []


def cells(tab):
    return tab.locator(".jp-Notebook .jp-Cell")


def choose(tab, menu: str, item: str) -> None:
    tab.get_by_role("menuitem", name=menu, exact=True).click()
    tab.get_by_text(item, exact=True).click()


def run(tab, cell) -> None:
    """Run a cell and wait for its end, whatever that is."""
    prompt = cell.locator(".jp-InputPrompt")
    before = prompt.inner_text()
    prompt.click()
    tab.keyboard.press("Shift+Enter")
    expect(prompt).not_to_have_text(before)
    expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=1000 * RUN_S)


def rest(tab) -> None:
    """Wait until nothing runs or waits to: after an error a kernel turns away what is asked too soon."""
    expect(tab.locator(".jp-InputPrompt", has_text="[*]")).to_have_count(0)
    expect(tab.get_by_text("| Idle")).to_be_visible()


def saved(tab, lab: Lab, name: str):
    choose(tab, "File", "Save Notebook")
    tab.locator(".jp-mod-dirty").wait_for(state="detached")
    return nbformat.read(lab.folder / f"notebooks/{name}.ipynb", as_version=4)


def test_the_first_notebook_runs_to_its_end_and_shows_every_figure(opened, lab):
    tab = opened("0_start_here")
    choose(tab, "Run", "Run All Cells")
    end = cells(tab).get_by_text("Written to").or_(tab.locator(ERROR)).first
    end.wait_for(timeout=1000 * RUN_S)
    assert tab.locator(ERROR).all_inner_texts() == []
    notebook = saved(tab, lab, "0_start_here")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if any("image" in kind for kind in output.get("data", {}))]
    assert not [
        output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert cells(tab).count() == len(notebook.cells)  # all of them are in the page
    assert tab.locator(IMAGES).evaluate_all(DRAWN) == [True] * len(figures) and figures


def test_a_cell_that_was_interrupted_goes_on_where_it_was(opened, lab):
    prepare(lab, "tapir/2_oracle_judging")
    tab = opened("tapir/2_oracle_judging")
    long = tab.locator(".jp-Notebook .jp-CodeCell", has_text="answered, sampled = respond(")
    choose(tab, "Run", "Run All Cells")
    until = time.monotonic() + RUN_S
    while not batches(lab):
        assert time.monotonic() < until and tab.locator(ERROR).all_inner_texts() == []
        tab.wait_for_timeout(100)
    choose(tab, "Kernel", "Interrupt Kernel")
    expect(long.locator(ERROR)).to_contain_text("KeyboardInterrupt")
    rest(tab)
    before = batches(lab)
    assert 0 < len(before) < BATCHES
    run(tab, long)
    assert long.locator(ERROR).count() == 0 and "responses" in long.locator(".jp-OutputArea").inner_text()
    after = batches(lab)
    assert len(after) == BATCHES and before.items() <= after.items()  # the kept ones were not made again


def prepare(lab: Lab, name: str) -> None:
    """Let a notebook judge a small corpus with the untaught student."""
    records.write(world.corpus(ROWS, 0), lab.folder / "rows.parquet")
    path = lab.folder / f"notebooks/{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += f'\nrows_from = "{lab.folder}/rows.parquet"\nstudent_from = "lib/gym/student"'
    parameters.source += "\nmax_new_tokens = 48"
    nbformat.write(notebook, path)


def batches(lab: Lab) -> dict[str, int]:
    """When each batch of responses was written."""
    return {
        path.name: path.stat().st_mtime_ns for path in lab.folder.glob("outputs/**/work/completions-*.json")
    }
