"""Run one notebook: papermill in a thread, its own kernel."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from lib import files, paths
from lib.errors import UserError
from lib.runner import folders

ENVIRONMENT = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


def run_notebook(source: Path, part: Path, values: dict, watch: Callable[[], None]) -> None:
    """Execute a notebook with these parameters; the executed copy lies in part, saved cell by cell.

    Calls watch a few times a second. Raises UserError with the failed cell, its error and the copy's path, and
    KeyboardInterrupt after stopping the kernel and its children.
    """
    started: list = []
    failure: list[BaseException] = []
    work = threading.Thread(target=_execute, args=(source, part, values, started, failure), daemon=True)
    work.start()
    try:
        while work.is_alive():
            work.join(0.2)
            watch()
    except BaseException:
        _kill(started)
        work.join(10)
        raise
    if failure:
        raise _explained(failure[0], part / "notebook.ipynb")
    if not (files.read_json(part / "progress.json") or {}).get("closed"):
        raise UserError(f"{source} ended without stage.close(): make that its last cell")


def _execute(source: Path, part: Path, values: dict, started: list, failure: list) -> None:
    """In a thread, so that Ctrl-C reaches us and not papermill, which would call the cell completed."""
    try:
        import papermill

        logging.getLogger("papermill").setLevel(logging.ERROR)
        logging.getLogger("traitlets").setLevel(logging.ERROR)
        papermill.execute_notebook(
            _literal(source),
            _literal(part / "notebook.ipynb"),
            parameters=values,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            log_output=False,
            cwd=paths.ROOT,
            extra_arguments=["--IPKernelApp.log_level=50"],  # it complains of being shut down quickly
            kernel_manager_class=_own_kernel(part, started),
        )
    except BaseException as error:
        failure.append(error)


def _literal(path: Path) -> str:
    """papermill fills in braces in paths; these are none of its business."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _own_kernel(part: Path, started: list) -> type:
    """A kernel of this very Python, whatever kernels are installed; it finds its work in $STAGE."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    path = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))
    own = {
        "OUTPUTS": str(folders.outputs()),
        "STAGE": str(part),
        "STAGE_RUNNER": str(os.getpid()),
        "PYTHONPATH": path,
    }
    spec = KernelSpec(**get_kernel_dict(), name="python3", env=ENVIRONMENT | own)

    class OwnKernel(AsyncKernelManager):
        kernel_spec = spec

        @default("transport_encryption")
        def _encrypted(self):  # others on the machine can reach its sockets
            return "auto"

        async def start_kernel(self, **kw):
            await super().start_kernel(**kw)
            started.append(self.provisioner.pid)

    return OwnKernel


def _kill(pids: list[int]) -> None:
    """A kernel leads its own process group; its children go with it."""
    for pid in pids:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _explained(error: BaseException, copy: Path) -> UserError:
    """Three lines: the cell, its error, the executed notebook."""
    kind = getattr(error, "ename", type(error).__name__)
    text = " ".join(str(getattr(error, "evalue", error)).split())[:600]
    code = [line for line in getattr(error, "source", "").splitlines() if line.strip()]
    cell = (
        f"cell In [{error.exec_count}]: {code[0] if code else ''}"
        if hasattr(error, "exec_count")
        else "the kernel"
    )
    if kind == "DeadKernelError":
        text = "the kernel died; if it was killed, it had probably run out of memory"
    return UserError(f"failed in {cell}\n{text if kind == 'UserError' else f'{kind}: {text}'}\nsee {copy}")
