"""Complete chats on a Ray cluster, by actors of Ray Data that hold the student.

Prompts, replies and this project's code go by Ray: a node needs this environment and the student's folder.
"""

import json
import logging
import os
import platform
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from lib import paths
from lib.errors import UserError, one_line
from lib.models import loading
from lib.models.backend import Backend, Batch
from lib.models.local import ON_CPU, ON_GPU, LocalBackend, context
from lib.models.types import Completion, SamplingParams

os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
        "RAY_BACKEND_LOG_LEVEL": "fatal",  # errors are raised
        "RAY_task_events_report_interval_ms": "0",  # the end of a kernel would wait for the last report
        "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # no stack trace where a kernel is ended
    }
    | os.environ
)

import ray  # noqa: E402  its variables are read at import
import ray.data  # noqa: E402

STORE = 300_000_000  # bytes of shared memory where Ray is started here
PASSES = 3  # over the batches that are left, such as those of a node that died


def join() -> None:
    """Join the cluster that RAY_ADDRESS names, else start Ray here. The nodes run this process's lib."""
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "")
    local = {} if address else {"include_dashboard": False, "object_store_memory": STORE}
    code = {"py_modules": [str(paths.ROOT / "lib")]}
    try:
        ray.init(address or "local", runtime_env=code, log_to_driver=False, logging_level="ERROR", **local)
    except Exception as error:  # Ray raises that itself
        ray.shutdown()
        raise UserError(
            f"RAY_ADDRESS={address}: Ray cannot be {'joined' if address else 'started'} ({_line(error)}). "
            "Start it with `ray start --head`, and set RAY_ADDRESS."
        ) from None


class RayBackend(Backend):
    """A student that actors on the nodes load from its folder or by its hub name."""

    def __init__(self, student: str | Path, actors: int = 0):
        self.student, self.actors = loading.locate("student", student), actors
        self.tokenizer = loading.load_tokenizer(student)
        self.context = context(loading.load_config(student))

    @property
    def batch_size(self) -> int:
        join()
        return ON_GPU if ray.cluster_resources().get("GPU") else ON_CPU  # as each node would have them

    def complete(self, batches: dict[int, Batch], params: SamplingParams, store: Callable) -> None:
        """Call `store` for each batch as it comes; a batch that was lost with its node is sent again.

        Raises UserError where no actor can load the student and, once all others are stored, for batches that
        failed.
        """
        left, failures = dict(batches), {}
        for _ in range(PASSES):
            try:
                for number, replies, failure in self._completed(left, params):
                    if failure:
                        failures[number] = failure
                    else:
                        store(number, replies)
                        del left[number]
            except ray.exceptions.RayError as error:
                failures |= dict.fromkeys(left, _line(error))
            if not left:
                return
        prompts = sum(len(batch.prompts) for batch in left.values())
        raise UserError(
            f"engine=ray: {len(left):,} of {len(batches):,} batches ({prompts:,} prompts) have no replies, "
            f"the first because of {failures.get(min(left), 'the end of its process')}. Start the same "
            "command again: the other batches are kept."
        )

    def _completed(self, batches: dict[int, Batch], params: SamplingParams) -> Iterator[tuple]:
        """Yield (number, completions, failure) in any order; nothing of a batch whose process died."""
        join()
        settings = ray.data.DataContext.get_current()
        settings.enable_progress_bars, settings.print_on_execution_start = False, False
        settings.max_errored_blocks = -1  # a block is a batch
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        actors, resources = _pool(self.actors)
        rows = [{"number": number, "batch": json.dumps(batch)} for number, batch in batches.items()]
        pool = ray.data.ActorPoolStrategy(size=min(actors, len(rows)), max_tasks_in_flight_per_actor=1)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                Actor,
                fn_constructor_args=(self.student, self.tokenizer, params),
                compute=pool,
                max_restarts=-1,
                max_task_retries=0,  # or Ray Data waits for the node that died
                **resources,
            )
        for row in dataset.iter_rows():
            replies = [[Completion(*each) for each in reply] for reply in json.loads(row["completions"])]
            yield row["number"], replies, row["failure"]


def _pool(actors: int) -> tuple[int, dict]:
    """Return the number of actors and the resources of each: by default a GPU or, without any, two CPUs."""
    if gpus := int(ray.cluster_resources().get("GPU", 0)):
        return actors or gpus, {"num_gpus": 1}
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    share = min(2, *filter(None, cpus))
    return actors or sum(count // share for count in cpus), {"num_cpus": share}


class Actor:
    """Completes batches on a node. An error is the batch's own, and part of its row."""

    def __init__(self, student: str, tokenizer, params: SamplingParams):
        self.student, self.tokenizer, self.params = student, tokenizer, params
        self.backend: LocalBackend | None = None  # loaded with the first batch, so that its error is a row

    def __call__(self, row: dict) -> dict:
        completions, failure = [], ""
        try:
            self.backend = self.backend or LocalBackend(loading.load_model(self.student), self.tokenizer)
            completions = self.backend.complete_batch(Batch(*json.loads(row["batch"])), self.params)
        except Exception as error:
            failure = f"{type(error).__name__} on the node {platform.node()}: {one_line(error)}"
        return {"number": row["number"], "completions": json.dumps(completions), "failure": failure}


def _line(error: BaseException) -> str:
    """Return the last line of an error: Ray's own hold the traceback of another process."""
    return one_line(str(error).strip().split("\n")[-1])
