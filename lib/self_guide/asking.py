"""A student asked about a target task: for new inputs, for responses after demonstrations, for the outputs that it agrees on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from lib.models import student
from lib.models.batches import NO_ANSWER, Reply
from lib.self_guide import filtering, generate
from lib.self_guide.generate import Labelled, Sampling
from lib.self_guide.target import Demo, Target


@dataclass(frozen=True)
class Asking:
    """Who is asked, about what, and with which prompt. `how` goes to `student.answer`: the folder for its batches, the token limit …"""

    student: student.Asked
    target: Target
    template: Callable[..., list[dict]]
    how: dict
    unanswered: Counter = field(
        default_factory=Counter
    )  # responses that were cut or hold thoughts alone, prompts that had no room

    def responses(self, inputs: list[str], demos: tuple[Demo, ...]) -> list[str]:
        """Greedy responses after these demonstrations; empty where the prompt leaves no room."""
        return self.responses_each(inputs, [demos] * len(inputs))

    def responses_each(self, inputs: list[str], demos: list[tuple[Demo, ...]]) -> list[str]:
        """The same, with demonstrations of its own for each input."""
        asked = [self.prompt(text, shown) for text, shown in zip(inputs, demos, strict=True)]
        made = [reply for (reply,) in student.answer_fitting(self.student, asked, **self.how)]
        ends = (NO_ANSWER if reply.unanswered else reply.finish for reply in made)
        self.unanswered.update(end for end in ends if end != "stop")
        return [generate.cleaned(reply.text) for reply in made]

    def labelled(self, inputs: list[str], sampling: Sampling, filters: list[str]) -> list[Labelled]:
        """The output of each input that the student agrees on with itself, after the target's demonstrations."""
        asked = [self.prompt(text, self.target.demos) for text in inputs]
        drawn = {"samples": sampling.samples, "temperature": sampling.temperature, "top_k": sampling.top_k}
        among = filtering.output_filters(self.target, filters)
        made = student.answer_fitting(self.student, asked, **self.how | drawn)
        return [generate.choose_output(self.target, replies, among, sampling.least_share) for replies in made]

    def new_inputs(self, texts: list[str], template: Callable, samples: int, **drawn) -> list[list[str]]:
        """Inputs like each of these, which is the one good example, `samples` or fewer of them: no repeats, and nothing empty."""
        alone = [Target(self.target.name, self.target.instruction, (Demo(text, ""),)) for text in texts]
        asked = [generate.input_prompt(one, [], "", Random(0), template) for one in alone]
        made: list[list[Reply]] = student.answer_fitting(self.student, asked, samples, **self.how | drawn)
        written = [dict.fromkeys(generate.cleaned(reply.text) for reply in replies) for replies in made]
        return [[new for new in of if new and new != text] for text, of in zip(texts, written, strict=True)]

    def prompt(self, text: str, demos: tuple[Demo, ...]) -> list[dict]:
        """What is asked about one input."""
        return generate.output_prompt(self.target.instruction, demos, text, self.template)
