"""A Ray cluster answers for the student: a node is killed, a prompt is poison, and nothing is lost in silence."""

import contextlib
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny import answer

from lib import models
from lib.errors import UserError

if not find_spec("ray"):
    pytest.skip("Ray is not installed: pip install -e '.[scale]'", allow_module_level=True)

# a busy machine may take longer than Ray's 15 s
os.environ |= {"RAY_agent_register_timeout_ms": "120000", "RAY_raylet_start_wait_time_s": "120"}
pytestmark = pytest.mark.slow  # Ray's start alone takes a minute

STUDENT = Path(__file__).parents[1] / "lib/gym/student"
PROMPTS = [[{"role": "user", "content": f"{'long ' * (i % 7)}question {i}"}] for i in range(24)]
OPTIONS = {"samples": 2, "temperature": 0.7, "max_new_tokens": 24, "batch_size": 2}
# a node without what it can do without: every process of Ray imports it for seconds
SMALL = {"object_store_memory": 100_000_000, "include_dashboard": False}
SMALL |= {"include_log_monitor": False, "no_monitor": True}


@pytest.fixture(scope="module")
def local():
    return answer(models.load(STUDENT), PROMPTS, **OPTIONS)


def spread(engine: str = "ray"):
    return models.choose(STUDENT, engine)


def test_where_no_cluster_is_named_one_is_started_here_and_the_replies_are_the_same(local, monkeypatch):
    from lib.models import cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    try:
        assert answer(spread("ray:1"), PROMPTS, **OPTIONS) == local
    finally:
        cluster.ray.shutdown()


def patiently(start):
    """Ray gives its own processes 30 s to start, which a busy machine may not keep."""
    for _ in range(2):
        with contextlib.suppress(Exception):
            return start()
    return start()


class Nodes:
    """A cluster of two nodes, of which one can be killed and comes back for the next test."""

    def __init__(self, cluster):
        self.cluster, self.second = cluster, None

    def both(self) -> None:
        self.second = self.second or patiently(lambda: self.cluster.add_node(num_cpus=1, **SMALL))

    def kill_one(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None


@pytest.fixture(scope="module")
def started():
    import ray
    from ray.cluster_utils import Cluster

    from lib.models.cluster import join

    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **SMALL}))
    os.environ["RAY_ADDRESS"] = cluster.address
    join()
    yield Nodes(cluster)
    del os.environ["RAY_ADDRESS"]
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def nodes(started):
    started.both()
    return started


def test_a_node_is_killed_midway_and_the_replies_are_those_of_a_student_loaded_here(nodes, local):
    seen = []

    def report(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 3:
            nodes.kill_one()

    replies = answer(spread(), PROMPTS, report=report, **OPTIONS)
    assert not nodes.second and seen == list(range(2, 25, 2))
    assert replies == local


def test_a_poisoned_prompt_costs_its_batch_alone_and_the_same_call_asks_for_that_alone(
    nodes, local, tmp_path
):
    poison = PROMPTS[7][0]["content"].replace("q", "\ud800")  # half a character: no tokenizer takes it
    prompts = [*PROMPTS[:7], [{"role": "user", "content": poison}], *PROMPTS[8:]]
    with pytest.raises(UserError, match=r"1 of 12 batches \(2 prompts\) have no replies, .* TypeError"):
        answer(spread(), prompts, folder=tmp_path, **OPTIONS)
    assert len(list(tmp_path.iterdir())) == 11
    with pytest.raises(UserError, match=r"1 of 1 batches"):
        answer(spread(), prompts, folder=tmp_path, **OPTIONS)
    assert answer(spread(), PROMPTS, folder=tmp_path, **OPTIONS) == local


def test_a_batch_whose_process_dies_every_time_is_given_up_and_the_others_are_answered(nodes, monkeypatch):
    from lib.models import cluster

    class Deadly(cluster.Actor):
        def __call__(self, row: dict) -> dict:
            if row["number"] == 3:
                os.abort()
            return super().__call__(row)

    monkeypatch.setattr(cluster, "Actor", Deadly)
    seen = []
    with pytest.raises(UserError, match=r"1 of 12 batches"):
        answer(spread(), PROMPTS, report=lambda *done: seen.append(done), **OPTIONS)
    assert seen[-1] == (22, 24)


def test_a_node_that_lacks_the_student_is_named(nodes, tmp_path):
    student = spread()
    student.student = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="UserError on the node .*: the student folder .*nowhere"):
        answer(student, PROMPTS, **OPTIONS)


def test_a_prompt_without_room_is_not_asked(nodes):
    long = [{"role": "user", "content": "long " * 2000}]
    (reply,), (none,) = answer(spread(), [PROMPTS[0], long], max_new_tokens=8, skip_long=True)
    assert reply.text and none.finish_reason == "no room"
