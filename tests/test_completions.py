"""What a model says is read in one way: thoughts apart, whole or not, and never of half a prompt."""

import pytest
from chat_server import reply_of

from lib.models.completions import Unusable, least_tokens, read
from lib.text import opens_thought, split_thoughts

CHANNELS = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>8 7<|return|>"


@pytest.mark.parametrize(
    "text, reasoning, wording",
    [
        ("<think>hm</think>8 7", "hm", "8 7"),
        ("\n<think>\nhm\n</think>\n\n8 7", "hm", "8 7"),
        ("<thinking>hm</thinking> 8 7", "hm", "8 7"),
        ("[THINK]hm[/THINK]8 7", "hm", "8 7"),
        ("<think>a</think><think>b</think>8 7", "a\nb", "8 7"),
        ("Both are fine.</think>8 7", "Both are fine.", "8 7"),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>Hi<|END_RESPONSE|>", "a", "Hi"),
        ("<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>Hi<|end_of_solution|>", "a", "Hi"),
        ("<think>a</think><answer>8 7</answer>", "a", "8 7"),
        ('<|channel|>final <|constrain|>json<|message|>{"a": 8}<|return|>', "", '{"a": 8}'),
        (CHANNELS, "hm", "8 7"),
        ("analysisWe compare.assistantfinal8 7", "We compare.", "8 7"),
        ("hm\n</think>\n\n8 7", "hm", "8 7"),  # the template wrote the opening tag
    ],
)
def test_thoughts_at_the_beginning_are_no_part_of_the_text(text, reasoning, wording):
    assert split_thoughts(text) == (reasoning, wording)


NEVER_ENDING = ["<think>[[3]] maybe", "<think>Assistant 1: 9\nAssistant 2: 2\nbut wait"]
NEVER_ENDING += ["<|channel|>analysis<|message|>8 7", "<think>a</think><think>8 7", "8 7\n</think>"]


@pytest.mark.parametrize("text", NEVER_ENDING)
def test_a_thought_that_never_ends_or_is_all_there_is_leaves_no_text(text):
    reasoning, wording = split_thoughts(text)
    assert reasoning and not wording


ABOUT_THOUGHTS = ["To close it, write </think>, and then go on."]
ABOUT_THOUGHTS += ["As HTML:\n```\n</think>\n```\nThat is all.", "Here: <think>hm</think> is how they look."]
ABOUT_THOUGHTS += ["analysis of the data shows", "analysisResult = 3"]


@pytest.mark.parametrize("text", ABOUT_THOUGHTS)
def test_a_response_about_thoughts_is_left_as_it_is(text):
    assert split_thoughts(text) == ("", text)


@pytest.mark.parametrize(
    "text, split",
    [
        ("hm</think>8 7", ("hm", "8 7")),
        ("hm, but", ("hm, but", "")),
        ("<think>hm</think>8 7", ("hm", "8 7")),
    ],
)
def test_behind_a_prompt_that_opens_a_thought_the_reply_begins_inside_it(text, split):
    assert opens_thought("<|assistant|><think>\n")
    assert not opens_thought("<|assistant|><think>\n\n</think>\n\n")
    assert split_thoughts(text, opened=True) == split


def body(text: str = "Judge.", **sampling) -> dict:
    return {"messages": [{"role": "user", "content": text}], **sampling}


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "8"}]


@pytest.mark.parametrize(
    "given, text, reasoning",
    [
        (reply_of(), "8 7", ""),
        (reply_of([*PARTS, {"type": "text", "text": " 7"}]), "8 7", "hm"),
        (reply_of([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "8 7"}]), "8 7", "hm"),
        (reply_of(reasoning_content="hm"), "8 7", "hm"),
        (reply_of(reasoning="hm"), "8 7", "hm"),
        (reply_of("<think>hm</think>8 7"), "8 7", "hm"),
        (reply_of(None, "length", reasoning_content="hm"), "", "hm"),
        (reply_of(None, "length"), "", ""),
        (reply_of("half \ud83d"), "half \ufffd", ""),
    ],
)
def test_text_and_thoughts_are_found_wherever_a_server_puts_them(given, text, reasoning):
    wording = read(given, body())
    assert (wording.text, wording.reasoning) == (text, reasoning)
    assert (wording.prompt_tokens, wording.completion_tokens) == (10, 5)


@pytest.mark.parametrize("tokens, limit, end", [(5, 6, "stop"), (5, 5, "length"), (5, None, "stop")])
def test_without_a_reason_the_tokens_tell_whether_a_reply_is_whole(tokens, limit, end):
    sampling = {"max_completion_tokens": limit} if limit else {}
    assert read(reply_of(finish=None, usage=(10, tokens)), body(**sampling)).finish_reason == end


def test_without_a_reason_and_without_a_count_only_a_reply_that_is_surely_short_is_whole():
    given = reply_of("four", None, None)
    assert read(given, body(max_tokens=5)).finish_reason == "stop"
    assert read(given, body(max_tokens=4)).finish_reason == "length"


@pytest.mark.parametrize(
    "finish, end",
    [
        *((word, "stop") for word in ("eos", "eos_token", "end_turn", "stop_sequence", "STOP")),
        *((word, "length") for word in ("length", "max_tokens", "model_length", "MAX_TOKENS")),
    ],
)
def test_how_a_reply_ended_is_read_whatever_the_server_calls_it(finish, end):
    assert read(reply_of(finish=finish), body()).finish_reason == end


CALL = {"tool_calls": [{"function": {"name": "rank", "arguments": "[1]"}}]}


def test_a_function_call_is_a_reply_where_functions_are_offered_alone():
    given = reply_of(None, "tool_calls", **CALL)
    assert read(given, body(tools=[])).text == "[1]"
    assert (
        read(reply_of(None, "function_call", function_call={"arguments": "{}"}), body(functions=[])).text
        == "{}"
    )
    with pytest.raises(Unusable, match="ended with 'tool_calls'"):
        read(given, body())


OTHER_ENDS = ("error", "abort", "SAFETY", "content_filter", "no such word", 5, {})


@pytest.mark.parametrize(
    "given, cause",
    [
        (None, "no chat completion"),
        ([], "no chat completion"),
        ({"choices": [{"message": None}]}, "no chat completion"),
        ({"object": "error", "error": "overloaded"}, "an error inside the reply: overloaded"),
        *((reply_of("half", finish), f"ended with '{finish}'") for finish in OTHER_ENDS),
        ({"choices": [reply_of("half")["choices"][0] | {"error": {"message": "overloaded"}}]}, "overloaded"),
        (reply_of(None, refusal="I can't help with that."), "the model refuses: I can't help"),
        (reply_of(None), "no text"),
        (reply_of([{"type": "image"}]), "no text"),
        (reply_of(7), "no text"),
    ],
)
def test_what_answers_nothing_is_no_completion_and_says_why(given, cause):
    with pytest.raises(Unusable, match=cause) as raised:
        read(given, body())
    assert raised.value.tokens == ((10, 5) if given and "usage" in given else None)


# The prompt

CHINESE = "我们首先比较两个助手的回答，然后给出分数。"


@pytest.mark.parametrize(
    "text, least, most",
    [
        ("word " * 6000, 4000, 4000),
        ("for i in range(10):\n        total += values[i] * 2\n" * 100, 500, 700),  # 2,000 tokens and more
        (CHINESE * 300, 1700, 2000),  # about 4,000
        ("哈" * 6000, 0, 2),  # a run of one character may be few tokens
        (" \n" * 6000, 0, 0),
    ],
)
def test_the_least_tokens_of_a_prompt_are_well_below_what_any_tokenizer_makes_of_it(text, least, most):
    assert least <= least_tokens(text) <= most


@pytest.mark.parametrize("stated", [2050, 4095, 2048])
def test_a_prompt_of_which_the_server_read_a_part_is_no_prompt(stated):
    with pytest.raises(
        Unusable, match=f"the server cut the prompt: its context is {stated:,} tokens"
    ) as raised:
        read(reply_of(usage=(stated, 5)), body("word " * 6150))
    assert raised.value.tokens == (stated, 5)


@pytest.mark.parametrize("stated", [6001, 4200, 10, 0])
def test_a_prompt_that_was_read_whole_or_is_not_counted_is_one(stated):
    assert read(reply_of(usage=(stated, 5)), body("word " * 6150)).text == "8 7"
