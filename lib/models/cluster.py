"""Responses of the student by a Ray cluster: Ray Data's actors hold it. Imported only where the engine is ray.

Prompts, replies and this project's code go by Ray: a node needs this environment and the student's folder.
"""

import json
import logging
import os
import platform
import warnings
from functools import partial

from lib import paths
from lib.errors import UserError, one_line
from lib.models.batches import Batch, How, Keep, Reply

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
    """Join the cluster that RAY_ADDRESS names, else start Ray in this process. The nodes run this process's lib."""
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


def answer(student, batches: dict[int, Batch], how: How, keep: Keep) -> None:
    """Give `keep` the replies to each batch as they come; a batch that was lost with its node is asked again.

    Raises UserError where no actor can load the student and, once all others are kept, for batches that failed.
    """
    left, failures = dict(batches), {}
    for _ in range(PASSES):
        try:
            for row in _answered(student, left, how):
                if row["failure"]:
                    failures[row["number"]] = row["failure"]
                else:
                    keep(
                        row["number"],
                        [[Reply(*reply) for reply in each] for each in json.loads(row["replies"])],
                    )
                    del left[row["number"]]
        except ray.exceptions.RayError as error:
            failures |= dict.fromkeys(left, _line(error))
        if not left:
            return
    cause = failures.get(min(left), "its process died")
    prompts = sum(len(batch.texts) for batch in left.values())
    raise UserError(
        f"engine=ray: {len(left):,} of {len(batches):,} batches ({prompts:,} prompts) have no replies, the first because of "
        f"{cause}. The others are kept: the same command asks for these alone."
    )


def _answered(student, batches: dict[int, Batch], how: How):
    """Yield {number, replies, failure} for each batch in any order, but not for one whose process died."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    context.max_errored_blocks = -1  # a block is a batch
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    actors, share = _pool(student.actors)
    rows = [{"number": number, "batch": json.dumps(batch)} for number, batch in batches.items()]
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        answered = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Answering,
            fn_constructor_args=(student, how),
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(rows)), max_tasks_in_flight_per_actor=1),
            max_restarts=-1,
            max_task_retries=0,  # or Ray Data waits for the node that died
            **share,
        )
    return answered.iter_rows()


def _pool(actors: int) -> tuple[int, dict]:
    """(number of actors, resources of each): by default one per GPU or, without any, one per two CPUs."""
    if there := gpus():
        return actors or there, {"num_gpus": 1}
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    share = min(2, *filter(None, cpus))
    return actors or sum(count // share for count in cpus), {"num_cpus": share}


class Answering:
    """An actor that holds the student. An error is the batch's own, and part of its row."""

    def __init__(self, student, how: How):
        from lib.models import loaded
        from lib.models.loading import load_model

        self.how, self.failure = how, ""
        try:
            self.answer = partial(loaded.answer_batch, load_model(student.place), student.tokenizer)
        except Exception as error:
            self.failure = f"the node {platform.node()}, which cannot load the student: {_line(error)}"

    def __call__(self, row: dict) -> dict:
        replies, failure = [], self.failure
        if not failure:
            try:
                replies = self.answer(Batch(*json.loads(row["batch"])), self.how)
            except Exception as error:
                failure = f"{type(error).__name__}: {_line(error)}"
        return {"number": row["number"], "replies": json.dumps(replies), "failure": failure}


def _line(error: BaseException) -> str:
    """An error in one line: the last line of a traceback."""
    lines = str(error).strip().split("\n")
    traceback = any(line.lstrip().startswith(("Traceback", 'File "')) for line in lines)
    return one_line(lines[-1 if traceback else 0] or type(error).__name__)
