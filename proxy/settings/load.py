"""Defaults < file < environment < command line; unknown names refused, all faults at once (R159, R160)."""

import difflib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxy.errors import ConfigurationError, Fault
from proxy.forwarding.addresses import MAX_PORT, normalize_host
from proxy.settings.checks import contradictions
from proxy.settings.kinds import Listen, SecretSource
from proxy.settings.model import Settings
from proxy.settings.spec import Entries, Named, Node, Section, Spec, default_of, nodes

PREFIX = "CONNECTOR_PROXY_"
TOKEN_PREFIX = f"{PREFIX}TOKEN_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
DEFAULT_FILE = Path("proxy.toml")

Dotted = tuple[str, ...]

Place = Callable[[Dotted], str]


@dataclass(frozen=True, slots=True)
class _Given:
    """A raw value with where it stands (for faults) and the folder that its paths count from."""

    raw: object
    place: str
    base: Path


class _Collector:
    """Gathers raw values by dotted name; a later layer replaces single values of an earlier one."""

    def __init__(self) -> None:
        self.values: dict[Dotted, _Given] = {}
        self.faults: list[Fault] = []

    def place(self, at: Dotted) -> str:
        """Where a setting, or the nearest table around it, was given."""
        found = next((self.values[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self.values), None)
        return found.place if found is not None else ".".join(at)

    def fault(self, place: str, message: str) -> None:
        self.faults.append(Fault(place, message))

    def table(
        self,
        cls: type[Any],
        raw: Mapping[str, object],
        at: Dotted,
        place: Callable[[Dotted], str],
        base: Path,
    ) -> None:
        """Take a table of settings of ``cls`` that stands at the dotted name ``at``."""
        declared = nodes(cls)
        for name, value in raw.items():
            node = declared.get(name)
            if node is None:
                self.fault(place((*at, name)), f"unknown setting{nearest(name, declared)}")
            else:
                self.node(node, value, (*at, name), place, base)

    def node(self, node: Node, raw: object, at: Dotted, place: Place, base: Path) -> None:
        """Take one value or table."""
        if isinstance(node, Spec):
            self.values[at] = _Given(raw, place(at), base)
        elif not isinstance(raw, Mapping):
            self.fault(place(at), "must be a table")
        elif isinstance(node, Section):
            self.table(node.cls, raw, at, place, base)
        else:
            for name, value in raw.items():
                if isinstance(node, Entries):
                    self.values[*at, name] = _Given(value, place((*at, name)), base)
                elif not isinstance(value, Mapping):
                    self.fault(place((*at, name)), "must be a table")
                else:
                    self.values[*at, name] = _Given(
                        None, place((*at, name)), base
                    )  # it is there, even when empty
                    self.table(node.cls, value, (*at, name), place, base)


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def load_settings(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Settings:
    """All settings, whole and checked, or none.

    Args:
        path: the file; None: the one that ``CONNECTOR_PROXY_CONFIG`` names, else ``proxy.toml`` in the
            current folder if there is one, else none.
        environ: ``CONNECTOR_PROXY_SECTION__KEY`` and the short forms are read, the rest is not looked at.
        overrides: from the command line: dotted name -> value. ``data.host``, ``data.port``,
            ``data.tls.port`` and ``control.port`` change hosts or ports of the addresses to listen on.

    Raises:
        ConfigurationError: with every fault found.
    """
    given = _Collector()
    _from_file(given, path, environ)
    _from_environment(given, environ)
    listening = {name: value for name, value in (overrides or {}).items() if name in _LISTENING}
    _from_command_line(given, {k: v for k, v in (overrides or {}).items() if k not in _LISTENING})
    given.values.setdefault(("storage", "data_dir"), _Given(default_data_dir(environ), "HOME", Path.cwd()))
    settings: Settings = _build(Settings, (), given)
    if not given.faults:
        settings = _relisten(settings, listening, given)
        given.faults.extend(contradictions(settings, given.place))
    if given.faults:
        raise ConfigurationError(*given.faults)
    return settings


def _from_file(given: _Collector, path: Path | None, environ: Mapping[str, str]) -> None:
    if path is None and environ.get(CONFIG_VARIABLE):
        path = Path(environ[CONFIG_VARIABLE])
    if path is None:
        if not DEFAULT_FILE.is_file():
            return
        path = DEFAULT_FILE
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        given.fault(str(path), error.strerror or "cannot be read")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        given.fault(str(path), f"not TOML: {error}")
    else:
        given.table(Settings, raw, (), lambda at: f"{path}: {'.'.join(at)}", path.absolute().parent)


def _from_environment(given: _Collector, environ: Mapping[str, str]) -> None:
    short = {node.env: at for at, node in _leaves(Settings, ()) if node.env}
    ours = sorted(name for name in environ if name.startswith(PREFIX) and name != CONFIG_VARIABLE)
    for variable in ours:
        name = variable.removeprefix(PREFIX)
        if variable in short:
            _one_variable(given, variable, environ[variable], short[variable])
        elif variable.startswith(TOKEN_PREFIX) and variable != TOKEN_PREFIX:
            _static_token(given, variable)
        elif "__" in name:
            _one_variable(given, variable, environ[variable], tuple(name.lower().split("__")))
        else:  # Kubernetes sets CONNECTOR_PROXY_PORT_... for a service of our name; misspellings are ours
            close = difflib.get_close_matches(variable, [*short, CONFIG_VARIABLE], n=1, cutoff=0.93)
            if close:
                given.fault(variable, f"unknown variable; did you mean {close[0]}?")


def _one_variable(given: _Collector, variable: str, text: str, at: Dotted) -> None:
    node: Node = Section(Settings)
    for depth, part in enumerate(at):
        below = _below(node)
        if isinstance(below, Mapping):
            if part not in below:
                known = [(PREFIX + "__".join((*at[:depth], name))).upper() for name in below]
                given.fault(variable, f"unknown setting{nearest(variable, known)}")
                return
            node = below[part]
        elif below is None:
            given.fault(variable, f"{'.'.join(at[:depth])} is one value; a table is given whole, as JSON")
            return
        else:
            node = below
    raw = _table_from(text) if not isinstance(node, Spec) else node.kind.from_variable(variable, text)
    given.node(node, raw, at, lambda _: variable, Path.cwd())


def _below(node: Node) -> Mapping[str, Node] | Node | None:
    """What stands under a name in a node: by name, the same for every name, or nothing."""
    if isinstance(node, Section):
        return nodes(node.cls)
    if isinstance(node, Named):
        return Section(node.cls)
    return node.spec if isinstance(node, Entries) else None


def _table_from(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _static_token(given: _Collector, variable: str) -> None:
    """``CONNECTOR_PROXY_TOKEN_SLACK``: a static source, unless one is declared otherwise."""
    at = ("sources", variable.removeprefix(TOKEN_PREFIX).lower())
    here = Path.cwd()
    given.values.setdefault(at, _Given(None, variable, here))
    given.values.setdefault((*at, "kind"), _Given("static", variable, here))
    given.values[*at, "token"] = _Given(SecretSource(env=variable), variable, here)


def _from_command_line(given: _Collector, overrides: Mapping[str, object]) -> None:
    for dotted, value in overrides.items():
        raw: object = value
        for part in reversed(dotted.split(".")):
            raw = {part: raw}
        if isinstance(raw, Mapping):
            given.table(Settings, raw, (), lambda at: f"command line: {'.'.join(at)}", Path.cwd())


def _leaves(cls: type[Any], at: Dotted) -> Iterable[tuple[Dotted, Spec]]:
    for name, node in nodes(cls).items():
        if isinstance(node, Spec):
            yield (*at, name), node
        elif isinstance(node, Section):
            yield from _leaves(node.cls, (*at, name))


def _build(cls: type[Any], at: Dotted, given: _Collector) -> Any:
    return cls(**{name: _value(node, (*at, name), given) for name, node in nodes(cls).items()})


def _value(node: Node, at: Dotted, given: _Collector) -> Any:
    if isinstance(node, Spec):
        return _decode(node, at, given)
    if isinstance(node, Section):
        return _build(node.cls, at, given)
    names = dict.fromkeys(key[len(at)] for key in given.values if key[: len(at)] == at and len(key) > len(at))
    if isinstance(node, Entries):
        return {name: _decode(node.spec, (*at, name), given) for name in names}
    return {name: _build(node.cls, (*at, name), given) for name in names}


def _decode(spec: Spec, at: Dotted, given: _Collector) -> Any:
    value = given.values.get(at)
    if value is None:
        return default_of(spec)
    try:
        return spec.kind.decode(value.raw, value.base)
    except ValueError as error:
        given.fault(value.place, str(error))
        return None


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """XDG Base Directory: a relative XDG_DATA_HOME is to be ignored."""
    home = environ.get("XDG_DATA_HOME", "")
    share = (
        Path(home) if home.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".local" / "share"
    )
    return share / "connector-proxy"


_LISTENING = ("data.host", "data.port", "data.tls.port", "control.port")


def _relisten(settings: Settings, overrides: Mapping[str, object], given: _Collector) -> Settings:
    """``--host`` and ``--port``: the same addresses with another host or port; unix sockets stay."""
    changes: dict[str, dict[str, Any]] = {}
    for dotted, value in overrides.items():
        try:
            change = {"host": normalize_host(str(value))} if dotted == "data.host" else {"port": _port(value)}
        except ValueError as error:
            given.fault(f"command line: {dotted}", str(error))
        else:
            changes.setdefault(dotted.rpartition(".")[0], {}).update(change)
    data, control = settings.data, settings.control
    tls = data.tls
    if "data.tls" in changes:
        base = tls.listen or tuple(item for item in data.listen if item.path is None)
        tls = replace(tls, listen=_changed(base, changes["data.tls"]))
    data = replace(data, listen=_changed(data.listen, changes.get("data", {})), tls=tls)
    control = replace(control, listen=_changed(control.listen, changes.get("control", {})))
    return replace(settings, data=data, control=control)


def _port(value: object) -> int:
    if isinstance(value, int) and 0 <= value <= MAX_PORT:
        return value
    raise ValueError(f"must be a port, 0 to {MAX_PORT}")


def _changed(listen: tuple[Listen, ...], changes: Mapping[str, Any]) -> tuple[Listen, ...]:
    changed = (item if item.path is not None else replace(item, **changes) for item in listen)
    return tuple(dict.fromkeys(changed))
