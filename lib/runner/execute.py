"""Run one stage by papermill, in a thread and a kernel of its own, with a share of the cores and a GPU."""

import logging
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from lib import files, paths
from lib.errors import UserError
from lib.runner import folders, keys
from lib.runner.display import Line
from lib.runner.plan import Planned

QUIET = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


@dataclass
class Job:
    """A stage to run; afterwards `status` is done or reused, or `error` is set."""

    stage: Planned
    run: str  # and its arm: "demo/tapir"
    key: str
    inputs: dict[str, Path | None]
    values: dict  # parameters that differ from the notebook's defaults
    later: list[dict]  # what comes after it in its arm
    engine: str  # of the run (lib.models.choose)
    line: Line
    slot: int = 0  # among the stages that run side by side
    environment: dict[str, str] = field(default_factory=dict)
    kernels: list[int] = field(default_factory=list)  # process ids
    status: str = "done"
    error: BaseException | None = None

    @property
    def folder(self) -> Path:
        """Its folder in the store."""
        return folders.stored(self.stage.notebook, self.key)

    def start(self, slot: int, workers: int, threads: int | None) -> None:
        self.slot, self.environment = slot, _share(slot, workers, threads)
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Kill the kernel and its children: each kernel leads a process group of its own."""
        for pid in self.kernels:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.thread.join(10)

    def is_running(self) -> bool:
        """Return whether the stage goes on, and show how far it is."""
        self.line.update(files.read_json(folders.part_of(self.folder) / "progress.json") or {})
        return self.thread.is_alive()

    def _work(self) -> None:
        started = time.monotonic()
        try:
            with folders.reserve(self.folder, self.line.note):
                if folders.recover(self.folder):  # another run was faster
                    self.status = "reused"
                else:
                    self._execute()
        except BaseException as error:  # raised again in the main thread
            self.error = error
        self.stage.seconds = round(time.monotonic() - started, 1)

    def _execute(self) -> None:
        if damage := folders.damage(self.folder):
            self.line.note(f"{damage}, so it is not reused")
        part, stage = folders.open_part(folders.part_of(self.folder)), self.stage
        for name in ("progress.json", "stage.json"):
            (part / name).unlink(missing_ok=True)
        threads = self.environment.get("OMP_NUM_THREADS")
        plan = keys.new_plan(stage.name, self.key, stage.values, self.inputs, self.run, threads)
        plan |= {"engine": self.engine, "seed": stage.seed}
        files.write_json(part / "plan.json", plan | {"later": self.later})
        notebook = folders.notebook_path(stage.notebook)
        run_notebook(notebook, part, self.values, self.kernels, self.environment)
        self.is_running()  # shows what was announced since the last look
        folders.complete(plan, part, self.folder)


def _share(slot: int, workers: int, threads: int | None) -> dict[str, str]:
    """Give a kernel its threads (by default $OMP_NUM_THREADS, or a share of the cores), and one GPU."""
    if workers == 1:
        return {"OMP_NUM_THREADS": str(threads)} if threads else {}
    share = max(1, (os.cpu_count() or 1) // workers)
    own = {"OMP_NUM_THREADS": str(threads or os.environ.get("OMP_NUM_THREADS") or share)}
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        gpus = [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    else:
        import torch

        gpus = [str(number) for number in range(torch.cuda.device_count())]
    return own | ({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {})


def run_notebook(source: Path, part: Path, values: dict, kernels: list[int], environment: dict) -> None:
    """Execute a notebook; its executed copy lies in `part`, saved cell by cell.

    The kernel's pid is appended to `kernels`, so that another thread can stop it. Raises UserError with the
    failed cell, its error and the copy's path.
    """
    import papermill

    for name in ("papermill", "traitlets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    copy = part / "notebook.ipynb"
    literal = [str(path).replace("{", "{{").replace("}", "}}") for path in (source, copy)]
    try:
        papermill.execute_notebook(
            *literal,
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
        raise _explained(error, copy) from None
    if not (files.read_json(part / "progress.json") or {}).get("closed"):
        raise UserError(f"{source} ended without stage.close(): make that its last cell")


def _own_kernel(part: Path, kernels: list[int], environment: dict) -> type:
    """Return a kernel class of this Python; $STAGE names its folder."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    own = {
        "OUTPUTS": str(folders.outputs()),
        "STAGE": str(part),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")])),
    }
    spec = KernelSpec(**get_kernel_dict(), name="python3", env=QUIET | environment | own)

    class OwnKernel(AsyncKernelManager):
        kernel_spec = spec

        async def start_kernel(self, **kw):
            await super().start_kernel(**kw)
            kernels.append(self.provisioner.pid)

    return OwnKernel


def _explained(error: BaseException, copy: Path) -> UserError:
    """Return an error of three lines: the cell, its error, the executed notebook."""
    kind = getattr(error, "ename", type(error).__name__)
    text = " ".join(str(getattr(error, "evalue", error)).split())[:600]
    cell = "the kernel"
    if hasattr(error, "exec_count"):
        code = [line for line in error.source.splitlines() if line.strip()]
        cell = f"cell In [{error.exec_count}]: {code[0] if code else ''}"
    if kind == "DeadKernelError":
        text = "the kernel died; if it was killed, it had probably run out of memory"
    return UserError(f"failed in {cell}\n{text if kind == 'UserError' else f'{kind}: {text}'}\nsee {copy}")
