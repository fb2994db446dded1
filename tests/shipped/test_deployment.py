"""The deployment examples say things that the program, systemd and Kubernetes understand; none was run in an engine."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from proxy.assembly.vaults import master_key_of, vault_place
from proxy.cli.root import tree
from proxy.connectors.masterkey import KeyCommand
from proxy.connectors.seal import master_key, new_master_key
from proxy.secret import Secret
from proxy.settings import Settings, load_settings
from proxy.supervisor import LAST_WORK_S

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
COMPOSE: dict[str, Any] = yaml.safe_load((CONFIG / "compose-postgres.yaml").read_text(encoding="utf-8"))
KUBERNETES: dict[str, dict[str, Any]] = {
    one["kind"]: one
    for one in yaml.safe_load_all((CONFIG / "kubernetes.yaml").read_text(encoding="utf-8"))
    if one is not None
}
UNIT_TEXT = (CONFIG / "connector-proxy.service").read_text(encoding="utf-8")
POD: dict[str, Any] = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
CONTAINER: dict[str, Any] = POD["containers"][0]
UID = 10001  # as in the Dockerfile, see test_image.py


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without any settings file in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("CONNECTOR_PROXY_CONFIG", "CONNECTOR_PROXY_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def settings_of(home: Path, environment: Mapping[str, str]) -> Settings:
    """What a process with this environment works by."""
    return load_settings(None, {"HOME": str(home), "CONNECTOR_PROXY_DATA_DIR": "/data", **environment})


def is_understood(args: list[str]) -> bool:
    """Whether the command line knows these arguments; nothing is started."""
    return CliRunner().invoke(tree(args), [*args, "--help"]).exit_code == 0


def test_two_instances_of_the_compose_file_share_one_vault(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same database, same master key, folders of their own, one name for callers, no port on the machine (R152)."""
    given = {"DATABASE_PASSWORD": "made-up", "MASTER_KEY": new_master_key().reveal()}
    instances = [COMPOSE["services"][name] for name in ("proxy-1", "proxy-2")]
    urls = []
    for one in instances:
        environment = {
            name: re.sub(r"\$\{([A-Z_]+)[^}]*\}", lambda found: given[found.group(1)], value)
            for name, value in one["environment"].items()
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = settings_of(home, environment)
        urls.append(settings.storage.database_url)
        source = master_key_of(settings)
        assert source.key.reveal() == given["MASTER_KEY"]
        assert vault_place(settings) == "PostgreSQL database proxy on database"
        assert is_understood(one["command"])
        assert "ports" not in one
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert seconds(one["stop_grace_period"]) > settings.data.drain_s + LAST_WORK_S
        assert one["networks"]["callers"] == {"aliases": ["connector-proxy"]}
    assert urls[0] == urls[1]
    folders = {one["volumes"][0] for one in instances}
    assert folders == {"proxy-1:/data", "proxy-2:/data"}
    assert {volume.split(":")[0] for volume in folders} < set(COMPOSE["volumes"])
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert COMPOSE["services"]["database"]["networks"] == ["database"]


def seconds(text: str) -> float:
    """A compose duration in seconds."""
    return float(text.removesuffix("s"))


def test_the_kubernetes_example_has_what_a_replica_needs(home: Path) -> None:
    """Two replicas on one database with one key, both from a Secret; nothing secret stands in the file (R152)."""
    assert set(KUBERNETES) == {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"}
    assert KUBERNETES["Deployment"]["spec"]["replicas"] == 2
    environment = {one["name"]: one["valueFrom"]["secretKeyRef"]["key"] for one in CONTAINER["env"]}
    assert environment == {
        "CONNECTOR_PROXY_MASTER_KEY": "master-key",
        "CONNECTOR_PROXY_DATABASE_URL": "database-url",
    }
    text = (CONFIG / "kubernetes.yaml").read_text(encoding="utf-8")
    for key in environment.values():
        assert f"--from-literal={key}=" in text
    settings = settings_of(home, dict.fromkeys(environment, "postgresql://p@db.example/p"))
    assert settings.storage.database_url is not None
    assert settings.storage.master_key is not None
    assert is_understood(CONTAINER["args"])
    assert POD["enableServiceLinks"] is False
    assert POD["automountServiceAccountToken"] is False


def test_a_pod_ends_in_order(home: Path) -> None:
    """The grace period covers the pause before SIGTERM, the drain time, and refreshes under way (R70)."""
    pause = float(re.search(r"sleep\((\d+)\)", CONTAINER["lifecycle"]["preStop"]["exec"]["command"][-1])[1])
    drain = settings_of(home, {}).data.drain_s
    assert POD["terminationGracePeriodSeconds"] >= pause + drain + LAST_WORK_S
    strategy = KUBERNETES["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert strategy["maxUnavailable"] == 0


def test_a_pod_has_no_rights_it_does_not_need() -> None:
    """The image's user, no root, no capabilities, a read-only root, only its folder to write to."""
    context = POD["securityContext"]
    assert (context["runAsUser"], context["runAsNonRoot"]) == (UID, True)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    own = CONTAINER["securityContext"]
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert CONTAINER["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]


def test_the_control_plane_of_a_pod_is_in_no_service(home: Path) -> None:
    """One port, the data plane's; the control plane keeps to loopback, where the probes ask it."""
    (port,) = CONTAINER["ports"]
    assert port == {"name": "data", "containerPort": 8080}
    (served,) = KUBERNETES["Service"]["spec"]["ports"]
    assert served["targetPort"] == "data"
    assert KUBERNETES["Service"]["spec"].get("type", "ClusterIP") == "ClusterIP"
    (rule,) = KUBERNETES["NetworkPolicy"]["spec"]["ingress"]
    assert rule["ports"] == [{"port": "data"}]
    control = {str(one) for one in settings_of(home, {}).control.listen}
    asked = {}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        code = CONTAINER[probe]["exec"]["command"]
        assert code[:2] == ["python", "-c"]
        compile(code[2], probe, "exec")
        address, path = re.search(r"http://([^/']+)(/\w+)", code[2]).groups()
        assert address in control
        asked[probe] = path
    assert asked == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


# --- systemd --------------------------------------------------------------------------------------------

# Directives of systemd 252 (Debian 12) that the unit uses, from systemd.unit(5), .service(5), .exec(5), .kill(5).
DIRECTIVES = {
    "Unit": "Description Documentation Wants After StartLimitIntervalSec StartLimitBurst",
    "Service": (
        "Type ExecStart ExecReload Restart RestartSec RestartPreventExitStatus KillMode TimeoutStopSec "
        "LimitNOFILE LimitCORE DynamicUser StateDirectory StateDirectoryMode WorkingDirectory UMask "
        "LoadCredential Environment NoNewPrivileges CapabilityBoundingSet AmbientCapabilities ProtectSystem "
        "ProtectHome PrivateTmp PrivateDevices ProtectClock ProtectHostname ProtectKernelLogs "
        "ProtectKernelModules ProtectKernelTunables ProtectControlGroups ProtectProc RestrictAddressFamilies "
        "RestrictNamespaces RestrictRealtime RestrictSUIDSGID LockPersonality MemoryDenyWriteExecute "
        "RemoveIPC SystemCallArchitectures SystemCallFilter SystemCallErrorNumber"
    ),
    "Install": "WantedBy",
}


def unit_lines() -> Iterator[tuple[str, str, str]]:
    """Section, directive and value of each line of the unit."""
    section = ""
    for line in UNIT_TEXT.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            yield section, name, value


def unit_values(name: str) -> list[str]:
    """The values of one directive of ``[Service]``."""
    return [value for section, found, value in unit_lines() if (section, found) == ("Service", name)]


def test_the_unit_has_no_directive_that_systemd_does_not_know(tmp_path: Path) -> None:
    """Every directive stands in its section; where systemd is at hand, it says the same and knows every value."""
    for section, name, _ in unit_lines():
        assert name in DIRECTIVES[section].split(), (section, name)
    found = shutil.which("systemd-analyze")
    if found is not None:
        unit = tmp_path / "connector-proxy.service"
        unit.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT_TEXT))
        done = subprocess.run(
            [found, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=30
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_starts_what_the_program_understands(home: Path) -> None:
    """Its environment makes settings: a vault in the state folder, and a master key that lies elsewhere."""
    (command,) = unit_values("ExecStart")
    program, *args = command.split()
    assert program.endswith("/connector-proxy")
    assert is_understood(args)
    credential = home / "credentials"
    credential.mkdir()
    key = new_master_key()
    (credential / "master-key").write_text(key.reveal() + "\n")
    variables = {}
    for value in unit_values("Environment"):
        name, _, text = value.strip('"').replace('\\"', '"').partition("=")
        variables[name] = text.replace("%S", str(home / "state")).replace("%d", str(credential))
    settings = settings_of(home, variables)
    assert settings.storage.data_dir == home / "state" / unit_values("StateDirectory")[0]
    assert settings.log.format == "json"
    source = master_key_of(settings)
    assert isinstance(source, KeyCommand)
    done = subprocess.run([*source.argv], capture_output=True, text=True, check=True)
    assert master_key(Secret(done.stdout)).key_id == master_key(key).key_id


def test_the_unit_stops_in_order(home: Path) -> None:
    """Systemd waits longer than the drain time and refreshes take, and signals the supervisor alone (R70)."""
    (limit,) = unit_values("TimeoutStopSec")
    assert float(limit) >= settings_of(home, {}).data.drain_s + LAST_WORK_S
    assert unit_values("KillMode") == ["mixed"]
    assert set(unit_values("RestartPreventExitStatus")[0].split()) == {"2", "3"}
    assert unit_values("ExecReload")[0].endswith("-HUP $MAINPID")


@pytest.mark.parametrize(
    "name", ["compose.yaml", "compose-postgres.yaml", "kubernetes.yaml", "connector-proxy.service"]
)
def test_each_example_says_how_it_is_used(name: str) -> None:
    """The comment on top holds the commands, and every one of ours in the file is one that exists."""
    lines = (CONFIG / name).read_text(encoding="utf-8").splitlines()
    top = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    assert len(top) >= 5
    told = re.findall(r"connector-proxy ((?:keys|serve|connect|check)(?: [a-z]+)?)", "\n".join(lines))
    assert told
    for words in told:
        first, *rest = words.split()
        assert is_understood([first, *rest] if first == "keys" else [first]), words
