"""The nodes of a Ray cluster: who they are, and how they answer for the student. Imported only where an engine is ray.

A node that dies costs the batches that were under way on it, which the others are then asked for. Prompts and replies go by Ray: a
node needs this environment and the student's folder, and no filesystem in common.
"""

import json
import logging
import os
import platform
import queue
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial

from lib import paths
from lib.batches import Batch, How, Keep, Reply
from lib.errors import UserError, one_line
from lib.settings import RAY

os.environ.update(RAY | os.environ)

try:
    import ray
    import ray.data
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise UserError("Ray is not installed, and the engine is ray: pip install -e '.[scale]'") from None

STORE = 300_000_000  # bytes of shared memory for rows on their way, where Ray is started here
TRIES = 3  # passes over what is left that may bring nothing
SICK = 10  # batches that fail one after the other: the rest would, too
LOOK_S, GONE_S = 5, 60  # between two looks for nodes while nothing comes; without one that could answer
# errors after which a process can do no more: of CUDA, and of vLLM's
FATAL = ("AcceleratorError", "EngineDeadError")


def join() -> None:
    """Join the cluster that RAY_ADDRESS names; where it names none, start a Ray here that ends with this process.

    The nodes run this process's lib, whatever they have installed themselves.
    """
    if ray.is_initialized():
        return
    named = os.environ.get("RAY_ADDRESS")
    here = {} if named else {"include_dashboard": False, "object_store_memory": STORE}
    code = {"py_modules": [str(paths.ROOT / "lib")]}
    how = {"runtime_env": code, "log_to_driver": False, "logging_level": logging.ERROR, **here}
    for again in (True, False):
        # a busy machine may not start Ray's processes within the 30 s that it gives them
        try:
            ray.init(named or "local", **how)
            return
        except Exception as error:  # Ray raises that itself
            ray.shutdown()
            if named or not again:
                raise UserError(_unreached(named, error)) from None


def _unreached(named: str | None, error: Exception) -> str:
    if named:
        return f"the Ray cluster at RAY_ADDRESS={named} cannot be joined ({line(error)}): does `ray status` see it?"
    return f"Ray cannot be started ({line(error)}): try again, or start it with `ray start --head` and set RAY_ADDRESS"


def gpus() -> int:
    """How many the nodes have that take part."""
    join()
    return sum(int(node["Resources"].get("GPU", 0)) for node in working())


def working() -> list[dict]:
    """Nodes that are alive and give a CPU: one that was started with --num-cpus 0 takes no part."""
    found = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not found:
        raise UserError("the Ray cluster has no node with a CPU: start one with ray start --address")
    return found


def at(node: dict) -> NodeAffinitySchedulingStrategy:
    """Where an actor runs that is to be on this node, or nowhere."""
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def line(error: BaseException) -> str:
    """An error in one line: of one that a node reports with its traceback, the last."""
    lines = str(error).strip().split("\n")
    traced = any(it.lstrip().startswith(("Traceback", 'File "')) for it in lines)
    return one_line(lines[-1 if traced else 0] or type(error).__name__)


# Responses of the student


def answer(student, batches: dict[int, Batch], how: How, keep: Keep) -> None:
    """Give `keep` the replies to each batch as they come. What was lost with a node is asked for again, what failed once more.

    Raises UserError where a node can't load the student or none is left, and, once all others are kept, for batches that could not be
    answered.
    """
    left, failed, idle, in_a_row = dict(batches), {}, 0, 0
    while left and idle < TRIES:
        before, lost = len(left), "whoever was asked for it died"
        try:
            for row in _asked(student, left, how):
                if row["refused"]:
                    raise UserError(f"{row['refused']}. What was answered is kept: the same command goes on")
                number = row["number"]
                if row["failed"]:
                    if number in failed:  # the first time it may be who was asked: another one may do better
                        del left[number]
                    failed[number], in_a_row = row["failed"], in_a_row + 1
                else:
                    keep(number, [[Reply(*each) for each in told] for told in json.loads(row["replies"])])
                    del left[number]
                    failed.pop(number, None)
                    in_a_row = 0
                if in_a_row == SICK:
                    raise UserError(
                        f"{SICK} batches in a row could not be answered, the last for: {row['failed']}. What was answered is kept: "
                        "the same command goes on"
                    )
        except ray.exceptions.RayError as error:  # a result that went with its node
            lost = line(error)
        idle = idle + 1 if len(left) == before else 0
    failed = dict.fromkeys(left, lost) | failed
    if failed:
        cause, prompts = failed[min(failed)], sum(len(batches[number].texts) for number in failed)
        raise UserError(
            f"{len(failed):,} of {len(batches):,} batches ({prompts:,} prompts) could not be answered, the first for: {cause}. "
            "The others are kept: the same command asks for those alone"
        )


def _asked(student, batches: dict[int, Batch], how: How) -> Iterator[dict]:
    """A row for each batch as it is answered, in any order.

    Ray Data would have a dead actor's batch wait until that actor is back, which may be never: such a batch is given up
    instead (max_task_retries), its actor comes back where there is room (max_restarts), and no number of lost ones ends the rest.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what is lost is said at the end
    actors, share = _pool(student.actors)
    rows = [{"number": number, "batch": json.dumps(batch)} for number, batch in batches.items()]
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of Ray before 2.64
        asked = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Answering,
            fn_constructor_args=(student, how),
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(rows)), max_tasks_in_flight_per_actor=1),
            max_restarts=-1,
            max_task_retries=0,
            **share,
        )
    return _watched(asked, share)


def _watched(asked: ray.data.Dataset, share: dict) -> Iterator[dict]:
    """The rows as they come. Raises UserError where none can come any more: Ray waits for nodes for ever, and says nothing."""
    came, end, enough = queue.SimpleQueue(), object(), threading.Event()

    def take() -> None:
        try:
            for row in asked.iter_rows():
                if enough.is_set():
                    return
                came.put(row)
            came.put(end)
        except BaseException as error:
            came.put(error)

    threading.Thread(target=take, daemon=True).start()
    seen = time.monotonic()
    try:
        while (row := _next(came)) is not end:
            if isinstance(row, BaseException):
                raise row
            if row or any(node["Alive"] and _offers(node, share) for node in ray.nodes()):
                seen = time.monotonic()
            elif time.monotonic() - seen > GONE_S:
                raise UserError(
                    "no node of the Ray cluster is left that could answer. What was answered is kept: the same command goes on"
                )
            if row:
                yield row
    finally:  # whoever is interrupted asks for no more, and gives the actors back
        enough.set()
        if executor := getattr(asked, "_current_executor", None):
            executor.shutdown(force=True)


def _next(came: queue.SimpleQueue) -> object:
    """What came; None where nothing did for a while."""
    try:
        return came.get(timeout=LOOK_S)
    except queue.Empty:
        return None


def _offers(node: dict, share: dict) -> bool:
    """Whether an actor with this share would ever run on this node; of Ray Data's a GPU takes a CPU, too."""
    needs = {"CPU": share.get("num_cpus", 1), "GPU": share.get("num_gpus", 0), **share.get("resources", {})}
    return all(node["Resources"].get(name, 0) >= amount for name, amount in needs.items())


def _pool(actors: int) -> tuple[int, dict]:
    """How many actors, and what each takes of its node: where `actors` is 0 one a GPU or, without any, one a pair of CPUs."""
    if there := gpus():
        return actors or there, {"num_gpus": 1}
    cpus = [int(node["Resources"]["CPU"]) for node in working()]
    share = min(2, *cpus)
    return actors or sum(count // share for count in cpus), {"num_cpus": share}


class Answering:
    """An actor that holds the student. It raises nothing: what a batch fails with is that batch's, and said; but a process that can do no
    more ends when it is asked again, and another one is started."""

    def __init__(self, student, how: How):
        self.how, self.refused, self.over = how, "", False
        try:
            self.answer = _loaded(student)
        except Exception as error:
            self.refused = f"the node {platform.node()} cannot load the student: {line(error)}"

    def __call__(self, row: dict) -> dict:
        told = {"number": row["number"], "replies": "", "failed": "", "refused": self.refused}
        if self.refused:
            return told
        if self.over:  # this batch is asked of another process
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return told | {"replies": json.dumps(self.answer(Batch(*json.loads(row["batch"])), self.how))}
        except Exception as error:
            self.over = type(error).__name__ in FATAL
            return told | {"failed": f"{type(error).__name__}: {line(error)}"}


def _loaded(spread) -> Callable[..., list[list[Reply]]]:
    """What answers a batch: vLLM where a GPU's node has it, else what answers without Ray, whose replies are the same on the same kind of
    device."""
    from lib import loaded, paged, student  # torch takes seconds that whoever only joins can do without

    if paged.possible():
        return paged.load(spread.place, spread.tokenizer, spread.context)
    return partial(loaded.answer_batch, student.load_model(spread.place), spread.tokenizer)
