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

from transformers import AutoConfig

from lib import paths
from lib.errors import UserError, one_line
from lib.models import loading, weights
from lib.models.backend import Backend, Batch
from lib.models.local import ON_GPU, ON_CPU, LocalBackend, context
from lib.models.types import Completion, SamplingParams

os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
        "RAY_BACKEND_LOG_LEVEL": "fatal",  # errors are raised
        "RAY_task_events_report_interval_ms": "0",  # the end of a kernel would wait for the last report
        "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # no stack trace where a kernel is ended
        "RAY_agent_register_timeout_ms": "120000",  # a busy machine may take longer than Ray's 15 s
        "RAY_raylet_start_wait_time_s": "120",
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
    address = os.environ.get("RAY_ADDRESS")
    local = {} if address else {"include_dashboard": False, "object_store_memory": STORE}
    code = {"py_modules": [str(paths.ROOT / "lib")]}
    try:
        ray.init(address or "local", runtime_env=code, log_to_driver=False, logging_level="ERROR", **local)
    except Exception as error:  # Ray raises that itself
        ray.shutdown()
        where = (
            f"RAY_ADDRESS={address}: the Ray cluster cannot be joined" if address else "Ray cannot be started"
        )
        raise UserError(
            f"{where} ({_line(error)}). Start it with `ray start --head`, and set RAY_ADDRESS."
        ) from None


def gpus() -> int:
    """Count the GPUs of the cluster."""
    join()
    return int(ray.cluster_resources().get("GPU", 0))


class RayBackend(Backend):
    """A student that actors on the nodes load from its folder or by its hub name."""

    def __init__(self, student: str, tokenizer, context: int | None, actors: int = 0):
        self.student, self.tokenizer, self.context, self.actors = student, tokenizer, context, actors

    @property
    def batch_size(self) -> int:
        return ON_GPU if gpus() else ON_CPU  # as each node would have them

    def complete(self, batches: dict[int, Batch], params: SamplingParams, store: Callable) -> None:
        """Call `store` for each batch as it comes; a batch that was lost with its node is asked again.

        Raises UserError where no actor can load the student and, once all others are kept, for batches that
        failed.
        """
        left, failures = dict(batches), {}
        for _ in range(PASSES):
            try:
                for row in self._answered(left, params):
                    if row["failure"]:
                        failures[row["number"]] = row["failure"]
                    else:
                        replies = json.loads(row["completions"])
                        store(
                            row["number"],
                            [[Completion(*each) for each in of_prompt] for of_prompt in replies],
                        )
                        del left[row["number"]]
            except ray.exceptions.RayError as error:
                failures |= dict.fromkeys(left, _line(error))
            if not left:
                return
        cause = failures.get(min(left), "its process died")
        prompts = sum(len(batch.prompts) for batch in left.values())
        raise UserError(
            f"engine=ray: {len(left):,} of {len(batches):,} batches ({prompts:,} prompts) have no replies, "
            f"the first because of {cause}. The others are kept: the same command asks for these alone."
        )

    def _answered(self, batches: dict[int, Batch], params: SamplingParams) -> Iterator[dict]:
        """Yield {number, completions, failure} of batches in any order; none of one whose process died."""
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        context.max_errored_blocks = -1  # a block is a batch
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        actors, resources = _pool(self.actors)
        rows = [{"number": number, "batch": json.dumps(batch)} for number, batch in batches.items()]
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                Answering,
                fn_constructor_args=(self.student, self.tokenizer, params),
                compute=ray.data.ActorPoolStrategy(
                    size=min(actors, len(rows)), max_tasks_in_flight_per_actor=1
                ),
                max_restarts=-1,
                max_task_retries=0,  # or Ray Data waits for the node that died
                **resources,
            )
        return dataset.iter_rows()


def _pool(actors: int) -> tuple[int, dict]:
    """(number of actors, resources of each): by default one per GPU or, without any, one per two CPUs."""
    if there := gpus():
        return actors or there, {"num_gpus": 1}
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    share = min(2, *filter(None, cpus))
    return actors or sum(count // share for count in cpus), {"num_cpus": share}


class Answering:
    """An actor that holds the student. An error is the batch's own, and part of its row."""

    def __init__(self, student: str, tokenizer, params: SamplingParams):
        self.params, self.failure = params, ""
        try:
            self.backend = LocalBackend(loading.load_model(student), tokenizer)
        except Exception as error:
            self.failure = f"the node {platform.node()}, which cannot load the student: {_line(error)}"

    def __call__(self, row: dict) -> dict:
        completions, failure = [], self.failure
        if not failure:
            try:
                completions = self.backend.complete_batch(Batch(*json.loads(row["batch"])), self.params)
            except Exception as error:
                failure = f"{type(error).__name__}: {_line(error)}"
        return {"number": row["number"], "completions": json.dumps(completions), "failure": failure}


def _line(error: BaseException) -> str:
    """An error in one line: the last line of a traceback."""
    lines = str(error).strip().split("\n")
    traceback = any(line.lstrip().startswith(("Traceback", 'File "')) for line in lines)
    return one_line(lines[-1 if traceback else 0] or type(error).__name__)


def spread(student: str | Path, chat_template: str, actors: int) -> RayBackend:
    """Return the backend of a student that the cluster's nodes load."""
    with weights.loading("student", student) as location:
        folder, file = weights.source(location)
        config = AutoConfig.from_pretrained(folder, **file, **weights.OWN_CODE)
    return RayBackend(location, loading.load_tokenizer(student, chat_template), context(config), actors)
