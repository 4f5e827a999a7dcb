"""How a student is asked: light to import, so that settings can be checked before torch is needed."""

from importlib.util import find_spec

from lib.errors import UserError

ENGINES = ("local", "server", "ray")  # this process, a server, the nodes of a cluster


def check_engine(engine: str, student_url: str, chat_template: str, concurrency: int, actors: int) -> None:
    """Raises UserError for an engine that is none, or is not installed, and for what does not go with it."""
    if engine not in ENGINES:
        raise UserError(f"engine is {engine!r}: it must be one of {', '.join(ENGINES)}")
    if student_url and engine != "server":
        raise UserError(
            f"student_url is {student_url}, but engine={engine} asks no server: set engine=server, or leave "
            "student_url empty"
        )
    if actors < 0:
        raise UserError(f"actors is {actors}: it must be 0 (as many as suit the cluster) or above")
    if engine == "ray" and not find_spec("ray"):
        raise UserError("engine=ray: Ray is not installed. Run pip install -e '.[scale]'.")
    if engine == "server":
        _check_server(student_url, chat_template, concurrency)


def _check_server(student_url: str, chat_template: str, concurrency: int) -> None:
    """Raise UserError for a wrong URL, a template that the server would not use, and no calls at once."""
    if not student_url:
        raise UserError(
            "engine=server asks a server, and none is named: set student_url, such as http://localhost:8000/v1"
        )
    if concurrency < 1:
        raise UserError(f"concurrency is {concurrency}: it must be 1 or more")
    if chat_template:
        raise UserError(
            f"chat_template is {chat_template}, but the server at student_url uses the one in the student's "
            "folder: set one of the two to empty for this notebook"
        )
    # the SDK takes a second to import: a student that is loaded here needs none
    from lib.models import transport

    try:
        transport.address(student_url)
    except UserError as error:
        raise UserError(f"student_url: {error}") from None
