"""Kernels forked from a process that has imported what notebooks import, which takes most of a small stage's time."""

import multiprocessing
import os
import signal
import sys
import time

from lib import files

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["ipykernel.kernelapp", "lib.training.sft", "lib.gym.world", "lib.tapir.classifier"]
)


class Kernel:
    """A forked kernel, with what jupyter_client asks of a process."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], env: dict[str, str], **ignored):
        self._process = FORKS.Process(target=_run, args=(command[3:], env, os.getcwd()))
        self._process.start()
        self.pid = self._process.pid
        while self.poll() is None and os.getpgid(self.pid) != self.pid:  # it is killed as a group
            time.sleep(0.01)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Become a kernel with a process group, an environment and a folder of its own."""
    import matplotlib
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    files.die_with_parent(os.getppid())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # as a kernel chooses before the import, which is made
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    sys.argv = ["ipykernel_launcher", *arguments]
    launch_new_instance()
