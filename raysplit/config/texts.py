"""The settings that hold text, read off the types of `RunConfig`: names, paths and addresses."""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from raysplit.config.run import RunConfig
from raysplit.plain_yaml import NO_TEXTS, Texts


@cache
def config_texts() -> Texts:
    """Return the places of a configuration whose plain values are text."""
    return texts_of(RunConfig)


def texts_of(kind: Any) -> Texts:
    """Return the places of a value of the type ``kind`` that hold text.

    A value of several types is text only where none of them is a number, a truth value or a fixed word.
    """
    if get_origin(kind) is Annotated:
        return texts_of(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return _merged([texts_of(one) for one in get_args(kind) if one is not type(None)])
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return Texts(keys={key: texts_of(field.annotation) for key, field in kind.model_fields.items()})
    if get_origin(kind) in (dict, tuple):
        return Texts(each=texts_of(get_args(kind)[1 if get_origin(kind) is dict else 0]))
    return Texts(scalar=kind is str)


def _merged(kinds: list[Texts]) -> Texts:
    mappings = [texts for texts in kinds if texts.names_keys]
    singles = [texts for texts in kinds if not texts.names_keys]
    inner = mappings[0] if mappings else NO_TEXTS
    return Texts(scalar=bool(singles) and all(texts.scalar for texts in singles), keys=inner.keys, each=inner.each)
