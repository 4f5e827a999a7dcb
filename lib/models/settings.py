"""How a student is asked: light to import, so that settings can be checked before torch is needed."""

from importlib.util import find_spec

from lib.errors import UserError

ENGINES = ("local", "ray")  # this process, the nodes of a cluster


def check_engine(student: str, engine: str, chat_template: str, actors: int) -> None:
    """Raise UserError for an engine that is none, or is not installed, and for what does not go with it."""
    from lib.models import catalog

    url = catalog.split(student)[1]
    if engine not in ENGINES:
        raise UserError(f"engine={engine}: it is unknown. Set it to {' or '.join(ENGINES)}.")
    if actors < 0:
        raise UserError(f"actors={actors}: it is below 0. Set 0 for as many as suit the cluster.")
    if engine == "ray" and not find_spec("ray"):
        raise UserError("engine=ray: Ray is not installed. Run pip install -e '.[scale]'.")
    if not url:
        return
    catalog.address(url)
    if engine != "local":
        raise UserError(f"engine={engine}: student={student} is asked at its server. Set engine=local.")
    if chat_template:
        raise UserError(
            f"chat_template={chat_template}: the server of student={student} uses the one in the student's "
            "folder. Set chat_template to empty for this notebook."
        )
