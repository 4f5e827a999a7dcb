"""Chat templates: the prompt they write, where a response begins, and the token that ends it."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

from lib.errors import UserError, one_line

# The date that Llama 3.1's template writes. Today's would give the student another prompt every day.
DATE = datetime(2024, 7, 26)
CALL = "strftime_now"  # how a template asks for today
CLOCK = "".join(f" | replace('%{code}', '{DATE:%{code}}')" for code in "YymBbdAaHMS")
CLOCK = f"{{%- macro {CALL}(pattern) %}}{{{{- pattern{CLOCK} }}}}{{%- endmacro %}}"
HELLO = [{"role": "user", "content": "Hello."}]
RESPONSE = "The first & last words of a Response."  # a template that changes any text changes this one
THOUGHT = "<think>"  # what a prompt ends with that opens a thought
NO_THOUGHT = "\n</think>\n\n"  # closes an empty one


class Ending(NamedTuple):
    """The text behind a response up to and with its end token, and the token's id."""

    text: str  # empty where the template writes no end token: the id is then the tokenizer's eos
    id: int


class Place(NamedTuple):
    """Where a response stands: the turns that the template takes, their prompt, what follows that."""

    turns: list[dict]
    prompt: str
    opening: str = ""


def prompts(tokenizer, conversations: Sequence[list[dict]], names: Sequence[str] = ()) -> list[str]:
    """Render each conversation up to where the student responds.

    Raises UserError that counts the conversations which the template cannot write, with the first of `names`.
    """
    return [slot.prompt for slot in _places(_prompted, tokenizer, conversations, names)]


def accepted(tokenizer, conversations: Sequence[list[dict]], names: Sequence[str] = ()) -> list[list[dict]]:
    """Change the turns of each conversation where the template refuses them; raises as `prompts` does."""
    return [slot.turns for slot in _places(_prompted, tokenizer, conversations, names)]


def adaptation(tokenizer, conversations: Iterable[list[dict]]) -> str:
    """Say how many conversations the template takes in another form only, "" for none."""
    unusual = [turns for turns in conversations if _alternating(turns, "user") != turns]
    changed = sum(form != turns for form, turns in zip(accepted(tokenizer, unusual), unusual, strict=True))
    if not changed:
        return ""
    return (
        f"{changed:,} conversations have turns that the chat template refuses: it is given a system message "
        "at the beginning of the user's next turn, and several turns of one role as one."
    )


def parts(
    tokenizer, conversations: Sequence[list[dict]], responses: Sequence[str], names: Sequence[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yield each prompt, and its response up to and with the end token, for training.

    What the template writes between the two, such as an empty thought, is part of the prompt; white space is
    part of the response, whose first token holds it. The response stands as in its row. Raises as
    `prompts` does.
    """
    ending = end(tokenizer).text
    places = _places(_opened, tokenizer, conversations, names)
    for (_, prompt, opening), response in zip(places, responses, strict=True):
        before, start = (prompt + opening, "") if opening.strip() else (prompt, opening)
        yield before, start + response + ending


def end(tokenizer) -> Ending:
    """Find the first marker that the template writes after a response, else the tokenizer's eos.

    Raises UserError where there is neither, or where the template does not write a response as it is.
    """
    _, closing = _around(tokenizer, _prompted(tokenizer, HELLO).turns)
    # not every tokenizer calls its markers special, and some have added tokens of white space
    markers = {i for i, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    ids = tokenizer(closing, add_special_tokens=False)["input_ids"] if closing else []
    if (first := next((i for i in ids if i in markers), None)) is not None:
        mark = tokenizer.convert_ids_to_tokens(first)
        return Ending(closing[: closing.index(mark) + len(mark)], first)
    if tokenizer.eos_token_id is None:
        raise _refused(tokenizer, "writes no end token after a response, and the tokenizer has no eos_token")
    return Ending("", tokenizer.eos_token_id)


def ends(tokenizer, generation) -> list[int]:
    """List the end tokens of template, GenerationConfig and tokenizer, in this order."""
    named = generation.eos_token_id
    named = named if isinstance(named, list) else [named]
    return [i for i in dict.fromkeys([end(tokenizer).id, *named, tokenizer.eos_token_id]) if i is not None]


def trained(tokenizer):
    """Copy a tokenizer for its trained student: any server then asks it as it was trained.

    A prompt includes what stood between prompt and response in training. The end token is the tokenizer's
    eos, where the template writes the same with it.
    """
    tokenizer = copy.deepcopy(tokenizer)
    opening = _opened(tokenizer, HELLO).opening
    if opening.strip():
        quoted = json.dumps(opening, ensure_ascii=False)
        addition = f"{{%- if add_generation_prompt %}}{{{{- {quoted} }}}}{{%- endif %}}"
        tokenizer.chat_template = tokenizer.get_chat_template() + addition
    conversation = [*HELLO, {"role": "assistant", "content": RESPONSE}, *HELLO]
    before, ending, eos = prompts(tokenizer, [conversation]), end(tokenizer), tokenizer.eos_token
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ending.id)
    if (prompts(tokenizer, [conversation]), end(tokenizer)) != (before, ending):
        tokenizer.eos_token = eos
    return tokenizer


# What a template takes


def _places(
    find: Callable, tokenizer, conversations: Sequence[list[dict]], names: Sequence[str]
) -> list[Place]:
    """Find the place of each response, of all of them before one is refused."""
    places, refused = [], {}
    for number, turns in enumerate(conversations):
        try:
            places.append(find(tokenizer, turns))
        except UserError as error:
            refused[number] = error
    if not refused:
        return places
    number, error = next(iter(refused.items()))
    name = f"row {names[number]}" if names else f"prompt {number + 1:,}"
    count = f"{len(refused):,} of {len(conversations):,}"
    raise UserError(f"{error} Or leave out the {count} that it cannot write: the first is {name}.")


def _prompted(tokenizer, turns: list[dict]) -> Place:
    """Find turns that the template takes whole: as they are, else user and assistant in turn."""
    reasons = []
    for form in (turns, _alternating(turns, "system"), _alternating(turns, "user")):
        try:
            prompt = _write(tokenizer, form, add_generation_prompt=True)
        except Exception as error:  # of jinja2, or whatever the template's own steps raise
            reasons.append(one_line(error))
            continue
        kept = [turn for turn in turns if turn["role"] != "assistant"]  # of an assistant's, thoughts may go
        lost = [turn["role"] for turn in kept if turn["content"].strip() not in prompt]
        if not lost:
            return Place(form, prompt)
        reasons.append(f"it leaves out or changes the text of {lost[0]}")
    roles = ", ".join(turn["role"] for turn in turns)
    raise _refused(tokenizer, f"cannot write a prompt of {roles}: {reasons[0]}")


def _alternating(turns: list[dict], system: str) -> list[dict]:
    """Join neighbouring turns of one role, and put an empty user turn before an assistant that begins.

    `system` is the role given to turns of the system and of tools: as user's, they join the user's next turn.
    """
    joined: list[dict] = []
    for turn in turns:
        role = turn["role"] if turn["role"] in ("user", "assistant") else system
        if joined and joined[-1]["role"] == role:
            joined[-1] = {"role": role, "content": f"{joined[-1]['content']}\n\n{turn['content']}"}
            continue
        if role == "assistant" and (not joined or joined[-1]["role"] == "system"):
            joined.append({"role": "user", "content": ""})
        joined.append({"role": role, "content": turn["content"]})
    return joined


# Where a response stands


def _opened(tokenizer, turns: list[dict]) -> Place:
    """Find what the template writes between a prompt and its response."""
    slot = _prompted(tokenizer, turns)
    before, _ = _around(tokenizer, slot.turns)
    if before.startswith(slot.prompt):
        return slot._replace(opening=before[len(slot.prompt) :])
    if slot.prompt.endswith(NO_THOUGHT):  # of a student that was trained here, see `trained`
        return slot
    if slot.prompt.rstrip().endswith(THOUGHT):  # which a whole conversation does without
        return slot._replace(opening=NO_THOUGHT)
    raise _refused(tokenizer, "renders a prompt differently once a response follows it")


def _around(tokenizer, turns: list[dict]) -> tuple[str, str]:
    """Return what the template writes before and after a response."""
    try:
        whole = _write(tokenizer, [*turns, {"role": "assistant", "content": RESPONSE}])
    except Exception as error:  # of jinja2, or whatever the template's own steps raise
        raise _refused(tokenizer, f"cannot write a response: {one_line(error)}") from None
    before, same, after = whole.rpartition(RESPONSE)
    if not same:
        raise _refused(tokenizer, "leaves out or changes the text of a response")
    return before, after


def _write(tokenizer, turns: list[dict], **options) -> str:
    template = tokenizer.get_chat_template()
    turns = _in_parts(turns) if _wants_parts(template) else turns
    template = CLOCK + template if CALL in template else template
    return tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False, **options)


@cache
def _wants_parts(template: str) -> bool:
    """Whether a template takes texts as lists of parts alone, as those of models that see images may."""
    # imported here: transformers takes a third of a second, which checks of settings can do without
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        [plain, in_parts], _ = render_jinja_template([HELLO, _in_parts(HELLO)], chat_template=template)
    except Exception:  # of jinja2, or whatever the template's own steps raise
        return False
    return HELLO[0]["content"] not in plain and HELLO[0]["content"] in in_parts


def _in_parts(turns: list[dict]) -> list[dict]:
    return [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in turns]


def _refused(tokenizer, reason: str) -> UserError:
    return UserError(
        f"student={tokenizer.name_or_path}: its chat template {reason}. Name another with chat_template."
    )
