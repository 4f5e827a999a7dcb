"""Every family's chat template is rendered, and what is trained is the response and its end token alone."""

import re
from importlib.resources import files

import pytest
from tiny import CHAT_TEMPLATE, byte_tokenizer
from transformers import GenerationConfig

from lib import paths, records
from lib.errors import UserError
from lib.models import chat_template
from lib.training import encoding

TEMPLATES = {file.name: file for file in files("trl").joinpath("chat_templates").iterdir()}
TEMPLATES = {name: file for name, file in sorted(TEMPLATES.items()) if name.endswith(".jinja")}
TEMPLATES |= {file.name: file for file in sorted(paths.local("params/prompts").glob("*.jinja"))}

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "What is it?"}
ASSISTANT = {"role": "assistant", "content": "A cat."}
CONVERSATIONS = {
    "one turn": [USER],
    "a system message": [SYSTEM, USER],
    "several turns": [USER, ASSISTANT, USER],
    "the assistant begins": [ASSISTANT, USER],
    "a system message before the assistant": [SYSTEM, ASSISTANT, USER],
    "two turns of the user": [USER, USER],
    "a system message within": [USER, ASSISTANT, SYSTEM, USER],
}
RESPONSE = "I do, <b>really</b>."
STRICT = """{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Roles must alternate') }}{% endif %}
{{- '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""


def tokenizer_with(template: str):
    """A tokenizer of bytes that knows the markers of a template as special tokens."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    markers = set(re.findall(r"<[|｜]?[\w▁/]+[|｜]?>", template)) - {"<think>", "</think>"}
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(markers - {"<|end|>"})})
    return tokenizer


@pytest.fixture(scope="module", params=TEMPLATES.values(), ids=TEMPLATES)
def family(request):
    return tokenizer_with(request.param.read_text(encoding="utf-8"))


def encoded(tokenizer, conversations):
    """The decoded prompt, and the tokens in the loss, of each conversation's last response."""
    rows = records.build(
        {"instruction": turns[-1]["content"], "turns": turns[:-1], "response": RESPONSE}
        for turns in conversations
    )
    for row in encoding.encode(tokenizer, rows, 100_000):
        size = sum(label != encoding.IGNORED for label in row["labels"])
        assert row["labels"] == [encoding.IGNORED] * (len(row["labels"]) - size) + row["input_ids"][-size:]
        yield tokenizer.decode(row["input_ids"][:-size]), row["input_ids"][-size:]


# Every family


def test_the_response_with_its_end_token_is_in_the_loss_and_nothing_else(family):
    written = encoded(family, CONVERSATIONS.values())
    for (prompt, ids), turns in zip(written, CONVERSATIONS.values(), strict=True):
        assert family.decode(ids[:-1]).strip() == RESPONSE
        assert ids[-1] == chat_template.end(family).id
        assert all(turn["content"] in prompt for turn in turns)


def test_a_trained_student_is_asked_as_it_was_trained(family):
    [(prompt, ids)] = encoded(family, [[SYSTEM, USER]])
    trained = chat_template.trained(family)
    assert chat_template.prompts(trained, [[SYSTEM, USER]]) == [prompt]
    assert [*encoded(trained, [[SYSTEM, USER]])] == [(prompt, ids)]


# One family


def test_empty_thoughts_of_qwen_3_are_prompt_and_its_end_is_im_end():
    tokenizer = tokenizer_with(TEMPLATES["qwen3.jinja"].read_text())
    texts = ["I do.", "Write </think> to close it."]
    for text, (prompt, response) in zip(
        texts, chat_template.parts(tokenizer, [[USER]] * 2, texts), strict=True
    ):
        assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
        assert response == f"{text}<|im_end|>"


def test_a_template_without_an_end_token_is_given_the_tokenizers_eos():
    tokenizer = tokenizer_with(TEMPLATES["glm4moe.jinja"].read_text())
    [(prompt, ids)] = encoded(tokenizer, [[USER]])
    assert tokenizer.decode(ids) == f"{RESPONSE}<|end|>" and prompt.endswith("<think></think>\n")


def test_the_system_prompt_that_qwen_2_5_adds_is_in_the_prompt():
    tokenizer = tokenizer_with(TEMPLATES["qwen2_5.jinja"].read_text())
    assert "You are Qwen, created by Alibaba Cloud." in chat_template.prompts(tokenizer, [[USER]])[0]


@pytest.mark.parametrize("name, today", [("llama3_2", "26 Jul 2024"), ("gptoss", "2024-07-26")])
def test_a_prompt_has_the_same_date_every_day(name, today):
    tokenizer = tokenizer_with(TEMPLATES[f"{name}.jinja"].read_text())
    assert f"date: {today}" in chat_template.prompts(tokenizer, [[USER]])[0].replace("Date", "date")


def test_gemma_reads_the_system_message_within_the_users_turn_and_this_is_said_once():
    tokenizer = tokenizer_with(TEMPLATES["gemma.jinja"].read_text())
    [prompt] = chat_template.prompts(tokenizer, [[SYSTEM, USER]])
    assert "<start_of_turn>user\nBe brief.\n\nWhat is it?<end_of_turn>" in prompt
    note = chat_template.adaptation(tokenizer, [[SYSTEM, USER], [USER], [SYSTEM, USER]])
    assert note.startswith("2 conversations have turns that the chat template refuses")
    assert chat_template.adaptation(tokenizer, [[USER]]) == ""
    other = tokenizer_with(TEMPLATES["qwen2_5.jinja"].read_text())
    assert chat_template.adaptation(other, [[SYSTEM, USER]]) == ""


def test_strict_alternation_loses_no_text_and_makes_none_up():
    tokenizer = tokenizer_with(STRICT)
    turns = [SYSTEM, ASSISTANT, ASSISTANT, USER, USER]
    assert chat_template.accepted(tokenizer, [turns]) == [
        [
            {"role": "user", "content": "Be brief."},
            {"role": "assistant", "content": "A cat.\n\nA cat."},
            {"role": "user", "content": "What is it?\n\nWhat is it?"},
        ]
    ]
    [begun] = chat_template.accepted(tokenizer, [[ASSISTANT, USER]])
    assert begun == [{"role": "user", "content": ""}, ASSISTANT, USER]


# What cannot be rendered

REFUSING = (
    "{% for m in messages %}{% if 'bad' in m.content %}{{ raise_exception('no bad words') }}{% endif %}"
)
REFUSING += "{{ m.content }}{% endfor %}"


def test_rows_that_cannot_be_written_are_counted_and_the_first_is_named():
    tokenizer = tokenizer_with(REFUSING)
    rows = records.build({"instruction": text, "response": "Yes."} for text in ("good", "bad", "so bad"))
    message = (
        f"of user: no bad words. Name .* the 2 of 3 that it cannot write: the first is row {rows['id'][1]}"
    )
    with pytest.raises(UserError, match=message):
        encoding.encode(tokenizer, rows, 64)


WHOLE = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
CHANGING = {
    "cut": "{{ m.content[:20] }}",
    "in capitals": "{{ m.content | upper }}",
    "escaped": "{{ m.content | e }}",
    "left out": "",
}


@pytest.mark.parametrize("written", CHANGING.values(), ids=CHANGING)
def test_a_template_that_changes_a_response_is_refused(written):
    turn = f"{{% if m.role == 'user' %}}{{{{ m.content }}}}{{% else %}}{written}{{% endif %}}"
    tokenizer = tokenizer_with(f"{{% for m in messages %}}{turn}{{% endfor %}}")
    with pytest.raises(UserError, match="its chat template leaves out or changes the text of a response"):
        list(chat_template.parts(tokenizer, [[USER]], ["I do."]))


def test_a_template_that_leaves_out_what_the_user_says_is_refused():
    tokenizer = tokenizer_with("{% for m in messages %}{{ m.role }}{% endfor %}")
    with pytest.raises(UserError, match="a prompt of user: it leaves out or changes the text of user"):
        chat_template.prompts(tokenizer, [[USER]])


def test_a_prompt_that_a_response_changes_is_refused():
    tokenizer = tokenizer_with(WHOLE + "{% if add_generation_prompt %}ASSISTANT: {% endif %}")
    with pytest.raises(UserError, match="renders a prompt differently once a response follows it"):
        list(chat_template.parts(tokenizer, [[USER]], ["I do."]))


def test_neither_template_nor_tokenizer_with_an_end_token_is_refused():
    tokenizer = tokenizer_with("{% for m in messages %}{{ m.content }}{% endfor %}")
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="writes no end token after a response, and the tokenizer has no eos"):
        chat_template.end(tokenizer)


# Where a response ends


def test_the_end_tokens_are_those_of_template_generation_config_and_tokenizer():
    tokenizer = tokenizer_with(TEMPLATES["qwen2_5.jinja"].read_text())
    end, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|end|>"])
    assert chat_template.ends(tokenizer, GenerationConfig(eos_token_id=[7, eos])) == [end, 7, eos]
    assert chat_template.ends(tokenizer, GenerationConfig()) == [end, eos]


def test_a_marker_that_the_tokenizer_does_not_call_special_ends_a_response_all_the_same():
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<|im_end|>", "\n"])
    tokenizer.chat_template = WHOLE.replace("<|end|>", "\n<|im_end|>\n")
    assert chat_template.end(tokenizer) == ("\n<|im_end|>", tokenizer.convert_tokens_to_ids("<|im_end|>"))


def test_the_eos_of_a_trained_tokenizer_is_the_end_token_where_no_prompt_changes():
    tokenizer = tokenizer_with(TEMPLATES["qwen2_5.jinja"].read_text())
    assert chat_template.trained(tokenizer).eos_token == "<|im_end|>" and tokenizer.eos_token == "<|end|>"
    closed_otherwise = CHAT_TEMPLATE.replace("<|end|>", "<|system|>")
    separated = tokenizer_with("{{ eos_token }}" + closed_otherwise)
    assert chat_template.trained(separated).eos_token == "<|end|>"
