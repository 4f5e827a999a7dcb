"""A strong model behind an endpoint: it answers, judges, labels, rates, expands and refines rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat

from datasets import Dataset

from lib import prompts, records, show
from lib.corpus import duplicates
from lib.corpus.novelty import Known
from lib.errors import UserError
from lib.models import completions
from lib.models.chat import Endpoint, Reply, Request
from lib.oracle import estimate, expected, replies
from lib.tapir import fitness, judge

ATTEMPTS = 2  # a reply that cannot be read is requested once more
CHUNK = 2000  # whole responses held at a time: with their log-probabilities they are long
COLUMNS = ("task", "response", "oracle_response", *records.SAID)  # that prompts are filled with


@dataclass
class LLMOracle:
    """Ask a strong model; `judge` may be another endpoint.

    `labels` are the taxonomy's tasks. A `reasoning` model takes no temperature, and its limit covers its
    thoughts. `failed` counts calls without a reply by purpose, `cut` responses that the token limit cut.
    `report` gets (done, total, purpose).
    """

    endpoint: Endpoint
    judge: Endpoint | None = None
    labels: tuple[str, ...] = ()
    max_tokens: int = 2048
    judge_max_tokens: int = 512
    reasoning: bool = False
    report: Callable[[int, int, str], None] = lambda done, total, purpose: None
    known: Known = field(default_factory=Known)
    expanded: Counter = field(default_factory=Counter)  # by parent: another expansion is another call
    failed: Counter = field(default_factory=Counter)
    cut: int = 0
    judge_scores: str = "text"  # or expected: by the log-probabilities of the score tokens
    unfit_judge: str = ""  # refuse or warn where the first verdicts do not depend on the responses
    warning: str = ""  # about an unfit judge

    def __post_init__(self):
        self.judge = self.judge or self.endpoint

    # What the stage spends

    def account(self) -> dict[str, float | None]:
        """Count the stage's calls, their money, replies from the ledger, and calls without a reply, as metrics."""
        counts = {
            f"oracle.{name}": sum(getattr(endpoint, name) for endpoint in self._endpoints())
            for name in ("cached", "failed")
        }
        return self.endpoint.account() | counts | {"oracle.cut_responses": self.cut}

    def _endpoints(self) -> Iterable[Endpoint]:
        return {id(endpoint): endpoint for endpoint in (self.endpoint, self.judge)}.values()

    def describe(self) -> str:
        """Return the account as one sentence."""
        n = {name.partition(".")[2]: value for name, value in self.account().items()}
        causes = sum((endpoint.failures for endpoint in self._endpoints()), Counter())
        money = "at an unknown price" if n["usd"] is None else f"USD {n['usd']:,.2f}"
        parts = [f"{n['calls']:,} oracle calls made, {n['cached']:,} answered by the ledger, {money}"]
        parts += [f"{count:,} got no reply ({purpose})" for purpose, count in self.failed.items() if count]
        parts += [
            f"the most frequent cause ({n:,}): {show.code(cause)}" for cause, n in causes.most_common(1)
        ]
        parts += [f"{self.cut:,} responses were cut at the token limit and are not used"] if self.cut else []
        return " ".join(filter(None, ["; ".join(parts) + ".", self.warning]))

    def estimate(self, rows: Dataset, **calls: int) -> str:
        """Estimate so many calls by purpose (answer, classify, judge, rate, expand, refine), as markdown."""
        names = {"classify": "classify", "judge": self._judge_prompt(), "rate": "rate_accuracy"}
        names |= {"expand": "expand", "refine": "refine_worked"}
        texts = {purpose: prompts.text(name) for purpose, name in names.items()}
        texts["classify"] += prompts.listed(self.labels)
        return estimate.describe(estimate.estimate(self, rows, texts, calls), self.endpoint)

    # Answer, label, rate, refine

    def answer(self, rows: Dataset) -> Dataset:
        """Add oracle_response where a row lacks one; null for no reply, an empty or a cut one."""
        responses = self._fill(rows["oracle_response"][:], rows, "answer", records.messages, _whole, 1)
        return records.update(rows, oracle_response=responses)

    def classify(self, rows: Dataset) -> Dataset:
        """Add the task of each row that lacks one; null where the reply names none of the labels, or several."""
        prompt, labels = prompts.template("classify"), prompts.listed(self.labels)

        def messages(row: dict) -> list[dict]:
            return prompt(labels=labels, instruction=prompts.conversation(row))

        def read(reply: Reply) -> str | None:
            return replies.label(reply.text or "", self.labels)

        return records.update(rows, task=self._fill(rows["task"][:], rows, "classify", messages, read))

    def rate(self, rows: Dataset, scale: str) -> list[float | None]:
        """Rate each row and its response on one of `judge.SCALES`; None where no rating could be read."""
        prompt = prompts.template(f"rate_{scale}")

        def messages(row: dict) -> list[dict]:
            return prompt(conversation=prompts.conversation(row), response=row["response"])

        def read(reply: Reply) -> float | None:
            return judge.read_rating(reply.text or "", scale)

        return self._fill([None] * len(rows), rows, "rate", messages, read)

    def refine(self, rows: Dataset, styles: dict[str, str]) -> list[str | None]:
        """Rewrite each response in its task's style; None for no style, no whole reply, a refusal or a copy."""
        styled = [styles.get(task, "none") for task in rows["task"]]
        templates = {style: prompts.template(f"refine_{style}") for style in {*styled} - {"none"}}

        def messages(row: dict) -> list[dict]:
            fill = templates[styles[row["task"]]]
            return fill(conversation=prompts.conversation(row), response=row["oracle_response"])

        texts = ["" if style == "none" else None for style in styled]
        texts = self._fill(texts, rows, "refine", messages, _whole, 1)
        pairs = zip(texts, rows["oracle_response"], strict=True)
        return [
            None if not text or replies.is_refusal(text) or replies.same(text, first) else text
            for text, first in pairs
        ]

    def _fill(
        self,
        values: list,
        rows: Dataset,
        purpose: str,
        messages: Callable[[dict], list[dict]],
        read: Callable[[Reply], object],
        attempts: int = ATTEMPTS,
    ) -> list:
        """Replace each None in `values` by what `read` makes of the reply to its row's messages."""
        for attempt in range(1, attempts + 1):
            missing = [i for i, value in enumerate(values) if value is None]
            chats = map(messages, _at(rows, missing, *COLUMNS))
            answers = self._ask(purpose, chats, len(missing), repeat(attempt))
            for i, reply in zip(missing, answers, strict=True):
                values[i] = read(reply)
        return values

    # Judge

    def score(self, rows: Dataset, reference: str = "oracle_response") -> Dataset:
        """Compare column `reference` with student_response where a row has both and no verdicts yet.

        Where `unfit_judge` is set, the first pairs are judged before all others. Raises UnfitJudge after them
        for a judge whose verdicts cannot be read or do not depend on the responses.
        """
        columns, verdicts = (reference, "student_response"), rows["verdicts"][:]
        pairs = enumerate(records.walk(rows, *columns))
        needed = [i for i, pair in pairs if None not in pair.values() and not verdicts[i]]
        pilot = fitness.PILOT if self.unfit_judge and len(needed) >= fitness.PILOT else 0
        for part in filter(None, (needed[:pilot], needed[pilot:])):
            is_pilot = part == needed[:pilot]
            fresh = self.compare(rows.select(part), *columns, at_once=is_pilot)
            for i, row_verdicts in zip(part, fresh, strict=True):
                verdicts[i] = row_verdicts
            if is_pilot:
                self._check_judge(records.update(rows.select(part), verdicts=fresh))
        return judge.apply(records.update(rows, verdicts=verdicts))

    def _check_judge(self, rows: Dataset) -> None:
        self.warning = fitness.check(rows, self.judge.model)
        if self.warning and self.unfit_judge == "refuse":
            raise fitness.UnfitJudge(self.warning)

    def compare(self, rows: Dataset, a: str, b: str, at_once: bool = False) -> list[list[dict]]:
        """Judge the responses in columns `a` and `b` in both orders; none where a row lacks one of them.

        The order oracle_first shows `a` first. A verdict that cannot be read is requested once more.
        """
        request = self._expected if self.judge_scores == "expected" else self._stated
        prompt, verdicts = prompts.template(self._judge_prompt()), [[] for _ in range(len(rows))]
        complete = [i for i, row in enumerate(records.walk(rows, a, b)) if None not in row.values()]
        pending = [(i, order) for i in complete for order in judge.ORDERS]
        for attempt in range(1, ATTEMPTS + 1):
            shown = zip(_at(rows, (i for i, _ in pending), a, b, *records.SAID), pending, strict=True)
            chats = (prompt(**_pair(row, a, b, order)) for row, (_, order) in shown)
            answers = request(chats, len(pending), attempt, at_once)
            unread = []
            for (i, order), answer in zip(pending, answers, strict=True):
                if answer:
                    verdicts[i].append({"order": order, "attempt": attempt, **answer})
                    unread += [] if judge.latest(verdicts[i][-1:]) else [(i, order)]
            pending = unread
        return verdicts

    def _judge_prompt(self) -> str:
        return "judge_expected" if self.judge_scores == "expected" else "judge"

    def _stated(self, chats: Iterable, total: int, attempt: int, at_once: bool) -> list[dict | None]:
        """Ask for verdicts in words; None where a call failed."""
        answers = self._ask("judge", chats, total, repeat(attempt), at_once=at_once)
        return [reply.text is not None and {"reply": reply.text, "finish": reply.finish} for reply in answers]

    def _expected(self, chats: Iterable, total: int, attempt: int, at_once: bool) -> list[dict | None]:
        """Ask for two scores and their log-probabilities; None where a call failed."""
        verdicts: list[dict | None] = []
        self.report(0, total, "judge")
        requests = (Request(messages, "judge", attempt, expected.SAMPLING) for messages in chats)
        for part in records.batched(requests, CHUNK):
            responses = self.judge.responses(part, at_once=at_once)
            self.failed["judge"] += responses.count(None)
            pairs = zip(part, responses, strict=True)
            verdicts += [response and self._expectation(request, response) for request, response in pairs]
            self.report(len(verdicts), total, "judge")
        return verdicts

    def _expectation(self, request: Request, response: dict) -> dict:
        reply = completions.read(response, request.body)
        tokens = (response["choices"][0].get("logprobs") or {}).get("content")
        if not tokens and reply.text:
            raise UserError(
                f"judge_scores=expected: {self.judge.model} at {self.judge.url} gives no log-probabilities. "
                "Set judge_scores=text, or serve the judge with them."
            )
        scores = expected.scores(reply.text, tokens or [])
        return {"reply": reply.text, "finish": reply.finish_reason, "expected": scores and list(scores)}

    # Expand

    def know(self, rows: Dataset, benchmarks: dict[str, list] | None = None) -> None:
        """Let expansion repeat neither these instructions, nor near copies, nor the prompts of benchmarks."""
        self.known, self.expanded = Known(benchmarks), Counter()
        self.known.add_rows(rows)

    def expand(self, rows: Dataset) -> tuple[Dataset, Counter]:
        """Return a new row with a response for each parent that yields one, and the dropped ones by cause."""
        prompt, parents = (
            prompts.template("expand"),
            rows.select_columns(["id", "task", "hard", *records.SAID]),
        )
        chats = (
            prompt(
                task=row["task"], instruction=prompts.conversation(row | {"input": ""}), input=row["input"]
            )
            for row in parents
        )
        answers = self._ask("expand", chats, len(rows), map(self._count, rows["id"]), temperature=1.0)
        children, tasks, drops = [], [], Counter()
        for parent, reply in zip(parents, answers, strict=True):
            child = self._child(parent, reply)
            if isinstance(child, str):
                drops[child] += 1
            else:
                children.append(child)
                tasks.append(parent["task"])
        answered = self.answer(self.classify(records.build(children)))
        causes = list(map(_why_not, answered["task"], tasks, answered["oracle_response"]))
        drops.update(filter(None, causes))
        return answered.select([i for i, cause in enumerate(causes) if not cause]), drops

    def _count(self, parent: str) -> int:
        """Return how often this parent has been expanded, this time included."""
        self.expanded[parent] += 1
        return self.expanded[parent]

    def _child(self, parent: dict, reply: Reply) -> dict | str:
        """Return the row of an expansion, or why there is none."""
        if reply.text is None:
            return "filtered" if "content_filter" in reply.finish else "no reply"
        if reply.finish == "length":
            return "cut"
        if replies.is_refusal(reply.text):
            return "refusal"
        if not (new := replies.new_instruction(reply.text)):
            return "unreadable"
        child = {"instruction": new[0], "input": new[1], "source": f"expanded:{parent['id']}"}
        if replies.same(prompts.conversation(child), prompts.conversation(parent)):
            return "copy of its parent"
        text = duplicates.full_text([], *new)
        if cause := self.known.why_not(text):
            return cause
        self.known.add(text)
        return child | {"hard": parent["hard"]}

    def _ask(
        self,
        purpose: str,
        chats: Iterable[list[dict]],
        total: int,
        attempts: Iterable[int],
        temperature: float = 0.0,
        at_once: bool = False,
    ) -> list[Reply]:
        """Ask the endpoint that the purpose belongs to, and count what failed or was cut."""
        if not total:
            return []
        is_judge = purpose in estimate.JUDGED
        endpoint = self.judge if is_judge else self.endpoint
        limit = self.judge_max_tokens if is_judge else self.max_tokens
        sampling = {"temperature": temperature, "max_tokens": limit}
        if self.reasoning and endpoint is self.endpoint:
            sampling = {"max_completion_tokens": limit}
        requests = (Request(chat, purpose, n, sampling) for chat, n in zip(chats, attempts, strict=False))
        self.report(0, total, purpose)
        answers = endpoint.chat(requests, lambda done: self.report(done, total, purpose), at_once)
        self.failed[purpose] += sum(reply.text is None for reply in answers)
        if purpose in ("answer", "refine"):
            self.cut += sum(reply.finish == "length" for reply in answers)
        return answers


def _why_not(task: str | None, wanted: str, response: str | None) -> str:
    """Say why a new row is dropped; empty where it is kept."""
    if task != wanted:
        return "another task"
    if not response:
        return "no response"
    return "refusal" if replies.is_refusal(response) else ""


def _whole(reply: Reply) -> str | None:
    """Return a response that ended by itself: training on a cut one would teach to stop in the middle."""
    return (reply.text or "").strip() or None if reply.finish == "stop" else None


def _at(rows: Dataset, positions: Iterable[int], *columns: str) -> Iterator[dict]:
    """Walk the rows at these positions, which rise and may repeat."""
    numbered, last = enumerate(records.walk(rows, *columns)), -1
    for i in positions:
        while last < i:
            last, row = next(numbered)
        yield row


def _pair(row: dict, a: str, b: str, order: str) -> dict[str, str]:
    """Return the parts of the judge's prompt in one order."""
    first, second = (row[a], row[b]) if order == judge.ORDERS[0] else (row[b], row[a])
    return {"conversation": prompts.conversation(row), "first": first, "second": second}
