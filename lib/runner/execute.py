"""Run one notebook by papermill, in a kernel of its own."""

import logging
import os
import signal
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


def run_notebook(source: Path, part: Path, values: dict, kernels: list[int], environment: dict) -> None:
    """Execute a notebook with these parameters; the executed copy lies in part, saved cell by cell.

    The kernel's pid is appended to `kernels`, so that another thread can stop it. Raises UserError with the
    failed cell, its error and the copy's path.
    """
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    logging.getLogger("traitlets").setLevel(logging.ERROR)
    try:
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
            kernel_manager_class=_own_kernel(part, kernels, environment),
        )
    except BaseException as error:  # a cancelled task, too
        raise _explained(error, part / "notebook.ipynb") from None
    if not (files.read_json(part / "progress.json") or {}).get("closed"):
        raise UserError(f"{source} ended without stage.close(): make that its last cell")


def _literal(path: Path) -> str:
    """Escape the braces of a path: papermill would fill them in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _own_kernel(part: Path, kernels: list[int], environment: dict) -> type:
    """Return a kernel class of this Python, whatever kernels are installed; $STAGE tells it its folder."""
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
    spec = KernelSpec(**get_kernel_dict(), name="python3", env=ENVIRONMENT | environment | own)

    class OwnKernel(AsyncKernelManager):
        kernel_spec = spec

        @default("transport_encryption")
        def _encrypted(self):  # others on the machine can reach its sockets
            return "auto"

        async def start_kernel(self, **kw):
            await super().start_kernel(**kw)
            kernels.append(self.provisioner.pid)

    return OwnKernel


def stop(kernels: list[int]) -> None:
    """Kill kernels and their children: each leads a process group of its own."""
    for pid in kernels:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _explained(error: BaseException, copy: Path) -> UserError:
    """Return an error of three lines: the cell, its error, the executed notebook."""
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
