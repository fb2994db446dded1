"""How a setting is declared: the fields of the settings' dataclasses carry these as metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from proxy.settings.kinds import Kind

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spec:
    """What is known about one setting besides its name."""

    kind: Kind[Any]
    default: object
    help: str
    unit: str = ""
    example: object = None
    env: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A field that is a table of settings."""

    cls: type[Any]


@dataclass(frozen=True, slots=True)
class Named:
    """A field that is a table of tables with free names; ``placeholder`` stands for the name."""

    cls: type[Any]
    placeholder: str
    example: str


@dataclass(frozen=True, slots=True)
class Entries:
    """A field that is a table of values with free names."""

    spec: Spec
    placeholder: str
    example: str


Node = Spec | Section | Named | Entries


def setting(
    kind: Kind[T],
    default: object,
    help: str,  # noqa: A002  # what it is
    *,
    unit: str = "",
    example: object = None,
    env: str = "",
) -> Any:
    """A field that is one setting. ``env`` is its short form in the environment."""
    spec = Spec(kind, default, help, unit, example, env)
    return field(default_factory=lambda: default_of(spec), metadata={"node": spec})


def default_of(spec: Spec) -> Any:
    """The typed default of a setting."""
    return None if spec.default is None else spec.kind.decode(spec.default, Path())


def section(cls: type[T]) -> Any:
    """A field that is a section, with its defaults."""
    return field(default_factory=cls, metadata={"node": Section(cls)})


def named(cls: type[Any], placeholder: str, example: str) -> Any:
    """A field with one table of settings a name."""
    return field(default_factory=dict, metadata={"node": Named(cls, placeholder, example)})


def entries(kind: Kind[Any], help: str, placeholder: str, example: str, value: object) -> Any:  # noqa: A002  # what it is
    """A field with one value a name."""
    spec = Spec(kind, None, help, example=value)
    return field(default_factory=dict, metadata={"node": Entries(spec, placeholder, example)})


def nodes(cls: type[Any]) -> Mapping[str, Node]:
    """Name -> declaration of every field of a settings class, in order."""
    return {each.name: each.metadata["node"] for each in fields(cls)}
