"""A shot to look at, as the pipeline makes it."""

from zs2.pipeline import Pipeline
from zs2.shot import Shot


class Taken(Exception):
    pass


def shot_of(pipe: Pipeline, prompt: str, *, features=(), **options) -> Shot:
    """The shot that a call of the pipeline would run."""

    def take(_: Pipeline, shot: Shot) -> Shot:
        raise Taken(shot)

    try:
        pipe(prompt, features=[*features, take], **options)
    except Taken as taken:
        return taken.args[0]
    raise AssertionError("no shot was made")
