"""The settings: frozen types that are also the table from which loading and documentation are made.

Each field is declared once: kind, raw default (as TOML would hold it), help, unit. A field without a default
has None and an example for the reference file.
"""
# ruff: noqa: RUF009  # setting(), section(), named() and entries() return dataclass fields

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from proxy.forwarding.addresses import Dial, Network
from proxy.forwarding.egress import EgressPolicy
from proxy.forwarding.front import Front
from proxy.forwarding.tunnel import EgressProxy
from proxy.secret import Secret
from proxy.settings import kinds
from proxy.settings.accounts import Base44, DeclaredKey, Oidc, Registration, Source, Webhook
from proxy.settings.kinds import Listen, SecretSource
from proxy.settings.observing import Audit, Log, Tracing
from proxy.settings.spec import entries, named, section, setting


@dataclass(frozen=True, slots=True)
class DataTls:
    """``[data.tls]``: a TLS listener beside the plain one."""

    listen: tuple[Listen, ...] = setting(kinds.LISTENS, [], "Addresses of the TLS listener; none: off.")
    cert_file: Path | None = setting(
        kinds.PATH,
        None,
        "Certificate chain, PEM; none: of a local authority (see `connector-proxy ca`).",
        example="/etc/connector-proxy/tls.crt",
    )
    key_file: Path | None = setting(
        kinds.PATH, None, "Its private key, PEM.", example="/etc/connector-proxy/tls.key"
    )


@dataclass(frozen=True, slots=True)
class Data:
    """``[data]``: the data plane."""

    listen: tuple[Listen, ...] = setting(
        kinds.LISTENS,
        ["127.0.0.1:8080", "[::1]:8080"],
        "Addresses that callers connect to; port 0: any free one.",
    )
    public_url: str | None = setting(
        kinds.URL_ORIGIN,
        None,
        "How callers reach the data plane, for links in answers; unset: scheme and Host of the request.",
        example="https://proxy.example.com",
    )
    host_suffixes: tuple[str, ...] = setting(
        kinds.HOSTS, [], "`{service}.{suffix}` as Host chooses the service.", example=["proxy.example.com"]
    )
    fallback: bool = setting(
        kinds.FLAG, False, "Send paths that only one service has to that service when no service is named."
    )
    drain_s: float = setting(
        kinds.SECONDS, 30, "How long requests in flight may go on after SIGTERM.", unit="seconds"
    )
    tls: DataTls = section(DataTls)


@dataclass(frozen=True, slots=True)
class ControlTls:
    """``[control.tls]``: TLS on the control plane's ports, in place of plain HTTP; not on unix sockets."""

    cert_file: Path | None = setting(
        kinds.PATH,
        None,
        "Certificate chain, PEM; none: plain HTTP.",
        example="/etc/connector-proxy/control.crt",
    )
    key_file: Path | None = setting(
        kinds.PATH, None, "Its private key, PEM.", example="/etc/connector-proxy/control.key"
    )


@dataclass(frozen=True, slots=True)
class Control:
    """``[control]``: the control plane."""

    listen: tuple[Listen, ...] = setting(
        kinds.LISTENS, ["127.0.0.1:8081", "[::1]:8081"], "Addresses of the control plane."
    )
    public_url: str | None = setting(
        kinds.URL_ORIGIN,
        None,
        "How a browser reaches the control plane; redirect addresses begin with it. Unset: "
        "`http://localhost`, or `https://` with `tls`, and the port of `listen`.",
        example="https://connect.example.com",
    )
    return_to: tuple[str, ...] = setting(
        kinds.listing(kinds.URL_ORIGIN, "list of URLs"),
        [],
        "Other origins that a browser may be sent to once an account is connected.",
        example=["https://app.example.com"],
    )
    allowed_hosts: tuple[str, ...] = setting(
        kinds.HOSTS,
        [],
        "Host names accepted besides localhost, 127.0.0.1, [::1] and the one of public_url.",
        example=["proxy.internal"],
    )
    password_sign_in: bool = setting(
        kinds.FLAG, True, "Whether passwords sign in; false takes `[control.oidc]`."
    )
    tls: ControlTls = section(ControlTls)
    oidc: Oidc = section(Oidc)

    def origin(self, bound: Iterable[str] = ()) -> str:
        """How a browser reaches the control plane; ``bound``: its addresses, where they are known by now."""
        if self.public_url is not None:
            return self.public_url
        texts = (*bound, *(str(one) for one in self.listen))
        ports = [text.rpartition(":")[2] for text in texts if not text.startswith("unix:")]
        port = next((port for port in ports if port != "0"), "8081")
        scheme, usual = ("http", "80") if self.tls.cert_file is None else ("https", "443")
        return f"{scheme}://localhost:{port}" if port != usual else f"{scheme}://localhost"


@dataclass(frozen=True, slots=True)
class Server:
    """``[server]``: what stands in front of both planes."""

    trusted_peers: tuple[Network, ...] = setting(
        kinds.KEY_NETWORKS,
        [],
        "Load balancers and reverse proxies: what comes from there says in `caller_field` who calls.",
        example=["10.0.0.0/24"],
    )
    caller_field: Literal["x-forwarded-for", "forwarded"] = setting(
        kinds.choice("x-forwarded-for", "forwarded"),
        "x-forwarded-for",
        "The field that they all write themselves; the other one counts for nothing.",
    )

    @property
    def front(self) -> Front | None:
        """What stands in front of us; None: nothing does."""
        return Front(self.trusted_peers, self.caller_field.encode()) if self.trusted_peers else None


@dataclass(frozen=True, slots=True)
class Storage:
    """``[storage]``: what is kept and under which key."""

    data_dir: Path = setting(
        kinds.PATH,
        None,
        "Data folder; unset: `connector-proxy` in the XDG data home (`~/.local/share`).",
        example="/var/lib/connector-proxy",
        env="CONNECTOR_PROXY_DATA_DIR",
    )
    require_mount: bool = setting(
        kinds.FLAG,
        False,
        "Make a master key only in a data folder that is a mount, so that no key goes away with a container.",
    )
    database_url: Secret | SecretSource | None = setting(
        kinds.SECRET,
        None,
        "PostgreSQL instead of SQLite in the data folder.",
        example={"env": "DATABASE_URL"},
        env="CONNECTOR_PROXY_DATABASE_URL",
    )
    master_key: SecretSource | None = setting(
        kinds.SECRET_SOURCE,
        None,
        "32 bytes in base64url; unset: a file of mode 0600 in the data folder.",
        example={"file": "/run/secrets/master-key"},
        env="CONNECTOR_PROXY_MASTER_KEY",
    )


@dataclass(frozen=True, slots=True)
class Services:
    """``[services]``: which services there are."""

    directory: Path | None = setting(
        kinds.PATH, None, "Folder with services of your own, one TOML file each.", example="services"
    )
    enabled: tuple[str, ...] = setting(
        kinds.TEXTS, [], "Only these services; none listed: all.", example=["slack", "github"]
    )
    extra_hosts: tuple[str, ...] = setting(
        kinds.TEXTS,
        [],
        "`service.host` names that the services' files leave switched off.",
        example=["slack.gov"],
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """``[limits]``: sizes in bytes, and numbers of things."""

    connections: int = setting(kinds.integer(least=1), 10_000, "Open connections from callers.")
    request_line: int = setting(kinds.integer(least=256), 65_536, "Method, target and version.", unit="bytes")
    header_bytes: int = setting(
        kinds.integer(least=1024), 131_072, "All header fields together.", unit="bytes"
    )
    headers: int = setting(kinds.integer(least=8), 256, "Number of header fields.")
    body_bytes: int = setting(kinds.BYTES, 0, "A request's body; 0: no limit.", unit="bytes")
    replay_bytes: int = setting(
        kinds.BYTES, 65_536, "Body kept for one replay after a refreshed token; 0: none.", unit="bytes"
    )
    upstream_per_service: int = setting(kinds.integer(least=1), 256, "Open connections to one service.")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """``[timeouts]``: seconds, 0 is none."""

    head: float = setting(kinds.SECONDS, 15, "A request's whole head.", unit="seconds")
    body_idle: float = setting(kinds.SECONDS, 60, "Between two parts of a request's body.", unit="seconds")
    keep_alive: float = setting(
        kinds.SECONDS,
        75,
        "An idle connection of a caller, or one that does not read its answers; 0 is 75 for the latter.",
        unit="seconds",
    )
    connect: float = setting(kinds.SECONDS, 10, "Connecting to a service, with TLS.", unit="seconds")
    first_byte: float = setting(
        kinds.SECONDS, 120, "From the request's end to the first byte of the answer.", unit="seconds"
    )
    idle: float = setting(kinds.SECONDS, 300, "Between two parts of an answer.", unit="seconds")
    total: float = setting(kinds.SECONDS, 0, "A whole exchange.", unit="seconds")


@dataclass(frozen=True, slots=True)
class Egress:
    """``[egress]``: where connections to services may go."""

    connect_to: Mapping[str, Dial] = setting(
        kinds.CONNECT_TO,
        {},
        "Dial there instead; name, SNI and certificate check stay. The address is not judged.",
        example={"slack.com:443": "127.0.0.1:9443"},
    )
    ca_file: Path | None = setting(
        kinds.PATH,
        None,
        "Extra roots, PEM, for `ca_hosts` only.",
        example="/etc/connector-proxy/extra-ca.pem",
    )
    ca_hosts: tuple[str, ...] = setting(
        kinds.HOST_PATTERNS, [], "Hosts that `ca_file` counts for; none listed: those of `connect_to`."
    )
    allow_addresses: tuple[Network, ...] = setting(
        kinds.NETWORKS,
        [],
        "Private or special networks that may be dialled.",
        example=["10.20.0.0/16"],
    )
    proxy: EgressProxy | None = setting(
        kinds.EGRESS_PROXY,
        None,
        "HTTP proxy for https connections to services and token endpoints (CONNECT), with `user:password@` "
        "if it wants that. The environment's proxies are never used.",
        example="http://proxy.internal:3128",
    )

    def policy(self, own: tuple[Dial, ...]) -> EgressPolicy:
        """The policy for a process that listens on ``own``."""
        return EgressPolicy(
            connect_to=self.connect_to,
            ca_file=self.ca_file,
            ca_hosts=self.ca_hosts,
            allow_addresses=self.allow_addresses,
            own=own,
            proxy=self.proxy,
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. ``storage.data_dir`` has no static default: ``load_settings`` always fills it."""

    data: Data = section(Data)
    control: Control = section(Control)
    server: Server = section(Server)
    listeners: Mapping[str, Listen] = entries(
        kinds.LISTEN, "A listener for one service only.", "SERVICE", "salesforce", "127.0.0.1:8101"
    )
    storage: Storage = section(Storage)
    services: Services = section(Services)
    limits: Limits = section(Limits)
    timeouts: Timeouts = section(Timeouts)
    egress: Egress = section(Egress)
    registrations: Mapping[str, Registration] = named(Registration, "ID", "google")
    sources: Mapping[str, Source] = named(Source, "SERVICE", "slack")
    keys: Mapping[str, DeclaredKey] = named(DeclaredKey, "NAME", "backend")
    base44: Base44 = section(Base44)
    webhook: Webhook = section(Webhook)
    audit: Audit = section(Audit)
    log: Log = section(Log)
    tracing: Tracing = section(Tracing)
