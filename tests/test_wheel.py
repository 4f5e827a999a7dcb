"""A wheel holds lib with its data: installed, it draws reports and knows the embedded world in any folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_any_report import IFEVAL, MOST, finished

ROOT = Path(__file__).parents[1]
GYM = """from lib.gym import world
from lib.gym.oracle import ExactOracle
rows = world.corpus(20, 0)
print(ExactOracle().classify(rows)["task"][0], world.__file__)"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which the wheel is installed."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    built = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(source), str(source)]
    subprocess.run([*pip, "wheel", *built], check=True)
    (wheel,) = source.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    return site


def run(installed: Path, folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed), "OUTPUTS": ""}
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_no_file_of_lib_is_missing(installed):
    source_files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "lib").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    installed_files = {
        path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()
    }
    assert {"lib/gym/student/model.safetensors", "lib/report/page.css"} <= source_files
    assert source_files - installed_files == set()


def test_the_embedded_world_is_there(installed, tmp_path):
    assert str(installed) in run(installed, tmp_path, "-c", GYM)


def test_a_report_is_drawn_in_any_folder(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTPUTS", str(tmp_path / "outputs"))
    finished(tmp_path / "outputs/demo", {"a": {f"{IFEVAL}@0": MOST}})
    assert run(installed, tmp_path, "-m", "lib.report", "demo") == "outputs/demo/report.html\n"
    assert "IFEval, prompts followed" in (tmp_path / "outputs/demo/report.html").read_text()
