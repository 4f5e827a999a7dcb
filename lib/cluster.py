"""The nodes of a Ray cluster: who they are, and how they answer for the student. Imported only where an engine is ray.

A node that dies costs the batches that were under way on it, which the others are then asked for. Prompts and replies go by Ray: a
node needs this environment and the student's folder, and no filesystem in common.
"""

import json
import logging
import os
import platform
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
    for again in (
        True,
        False,
    ):  # Ray gives its own processes 30 s to start, which a busy machine may not keep
        try:
            ray.init(named or "local", **how)
            return
        except Exception as error:  # Ray raises that itself
            ray.shutdown()
            if named or not again:
                raise UserError(_unreached(named, error)) from None


def _unreached(named: str | None, error: Exception) -> str:
    if named:
        return f"the Ray cluster at RAY_ADDRESS={named} cannot be joined ({_line(error)}): does `ray status` see it?"
    return f"Ray cannot be started ({_line(error)}): try again, or start it with `ray start --head` and set RAY_ADDRESS"


def has_gpus() -> bool:
    join()
    return ray.cluster_resources().get("GPU", 0) > 0


def working() -> list[dict]:
    """Nodes that are alive and give a CPU: one that was started with --num-cpus 0 takes no part."""
    found = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not found:
        raise UserError("the Ray cluster has no node with a CPU: start one with ray start --address")
    return found


def at(node: dict) -> NodeAffinitySchedulingStrategy:
    """Where an actor runs that is to be on this node, or nowhere."""
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _line(error: BaseException) -> str:
    """An error in one line: of one that a node reports with its traceback, the last."""
    lines = str(error).strip().split("\n")
    return one_line(lines[-1] if "Traceback" in lines[0] else lines[0]) if lines[0] else type(error).__name__


# Responses of the student


def answer(student, batches: dict[int, Batch], how: How, keep: Keep) -> None:
    """Give `keep` the replies to each batch as they come. What was lost with a node is asked for again.

    Raises UserError where a node can't load the student, and, once all others are kept, for batches that could not be answered.
    """
    left, failed, idle = dict(batches), {}, 0
    while left and idle < TRIES:
        before, lost = len(left), "whoever was asked for it died"
        try:
            for row in _asked(student, left, how):
                if row["refused"]:
                    raise UserError(f"{row['refused']}. What was answered is kept: the same command goes on")
                number, batch = row["number"], left.pop(row["number"])
                if row["failed"]:
                    failed[number] = row["failed"], len(batch.texts)
                else:
                    keep(number, [[Reply(*each) for each in told] for told in json.loads(row["replies"])])
        except ray.exceptions.RayError as error:  # a result that went with its node
            lost = _line(error)
        idle = idle + 1 if len(left) == before else 0
    failed |= {number: (lost, len(batch.texts)) for number, batch in left.items()}
    if failed:
        cause, prompts = failed[min(failed)][0], sum(count for _, count in failed.values())
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
            fn_constructor_args=(student.place, student.tokenizer, how),
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(rows)), max_tasks_in_flight_per_actor=1),
            max_restarts=-1,
            max_task_retries=0,
            **share,
        )
    return asked.iter_rows()


def _pool(actors: int) -> tuple[int, dict]:
    """How many actors, and what each takes of its node: where `actors` is 0 one a GPU or, without any, one a pair of CPUs."""
    join()
    if gpus := int(ray.cluster_resources().get("GPU", 0)):
        return actors or gpus, {"num_gpus": 1}
    cpus = [int(node["Resources"]["CPU"]) for node in working()]
    share = min(2, *cpus)
    return actors or sum(count // share for count in cpus), {"num_cpus": share}


class Answering:
    """An actor that holds the student. It raises nothing: what a batch fails with is that batch's, and said."""

    def __init__(self, place: str, tokenizer, how: How):
        self.how, self.refused = how, ""
        try:
            self.answer = _loaded(place, tokenizer)
        except Exception as error:
            self.refused = f"the node {platform.node()} cannot load the student: {_line(error)}"

    def __call__(self, row: dict) -> dict:
        told = {"number": row["number"], "replies": "", "failed": "", "refused": self.refused}
        if self.refused:
            return told
        try:
            return told | {"replies": json.dumps(self.answer(Batch(*json.loads(row["batch"])), self.how))}
        except Exception as error:
            return told | {"failed": f"{type(error).__name__}: {_line(error)}"}


def _loaded(place: str, tokenizer) -> Callable[..., list[list[Reply]]]:
    """What answers a batch: vLLM where a GPU's node has it, else what answers without Ray, whose replies are the same on the same kind of
    device."""
    from lib import loaded, paged, student  # torch takes seconds that whoever only joins can do without

    if paged.possible():
        return paged.load(place, tokenizer)
    return partial(loaded.answer_batch, student.load_model(place), tokenizer)
