"""A value behind -p has the type that was declared, or is refused; any text can be stored, named and shown."""

from generated import always, scalars, texts
from hypothesis import strategies as st

from lib import show
from lib.errors import UserError, named, one_line
from lib.runner import params
from lib.text import clean as cleaned

PYTHON = {"float": float, "int": int, "str": str, "bool": bool, "list[str]": list, "dict[str, float]": dict}
yaml_signs = st.text(st.sampled_from("ab01:-?[]{},&*!|>'\"%@#=<~. \n\t\x00\x85é"), max_size=40)


@always(200, 3500, text=yaml_signs | texts | scalars.map(str), kind=st.sampled_from(list(PYTHON)))
def test_a_value_of_the_command_line_has_its_type_or_is_refused(text, kind):
    try:
        value = params.from_text(text, kind, "-p x")
    except UserError as error:
        assert str(error).startswith("-p x") and str(error).isprintable()
        return
    assert type(value) is PYTHON[kind]
    assert kind != "str" or value == text


# Texts as they are stored and shown


@always(300, 9000, text=texts | yaml_signs)
def test_any_text_can_be_stored_named_and_shown(text):
    clean = cleaned(text)
    assert clean.encode().decode() == clean == cleaned(clean) and len(clean) == len(text)
    assert named([text, text]).isprintable() and one_line(text).isprintable()
    shown = show.code(text)
    assert shown[0] == shown[-1] == "`" and "`" not in shown[1:-1] and len(shown) <= 82 and "\n" not in shown
    seen = show.plain(text)
    assert not show.INVISIBLE.search(seen)
