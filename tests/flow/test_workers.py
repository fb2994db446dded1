"""``serve --workers 2``: one server of several processes, of which any may die (R58, R70, R89, R155, R160)."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from support.browser import Browser
from support.commands import Inside, command
from support.crew import Crew, Service, alive, answer, calling, gone
from support.postgres import Postgres
from support.serving import declared_key, get, until
from support.vaults import MASTER

pytestmark = pytest.mark.traced


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """The service behind all servers here."""
    one = Service()
    yield one
    one.close()


@pytest.fixture(scope="module")
def _crew(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with Crew(tmp_path_factory.mktemp("crew"), service, extra='[listeners]\nside = "127.0.0.1:0"\n') as crew:
        crew.ready()
        crew.workers()[0].kill()  # what a first replacement opens for good is open now
        crew.ready()
        yield crew


@pytest.fixture
def crew(_crew: Crew, service: Service) -> Iterator[Crew]:
    """A server with two workers, both ready before and after; no descriptor, process or cut line is left."""
    supervisor = psutil.Process(_crew.pid)
    held = supervisor.num_fds()
    service.gate.clear()
    yield _crew
    service.gate.set()
    _crew.ready()
    until(lambda: supervisor.num_fds() <= held, 30, _crew)
    assert len(supervisor.children()) == 2
    _crew.whole_log()


def test_all_workers_answer_on_every_socket(crew: Crew) -> None:
    """Callers see one server: one address, one readiness, and whichever process is free answers."""
    before = crew.by_worker()
    for _ in range(30):
        assert answer(crew.connected()) == 200
        if len(crew.by_worker() - before) == 2:
            break
    opened = [crew.connected() for _ in range(20)]
    assert [answer(one) for one in opened] == [200] * 20
    own = crew.told["listeners"][0].removeprefix("side=").rpartition(":")
    assert get((own[0], int(own[2])), "/x", crew.key)[0] == 200
    until(lambda: set(crew.by_worker() - before) == {1, 2}, 30, crew)
    assert crew.readiness() == (200, {"data_plane": "ok", "vault": "ok"})


def test_a_person_sees_the_requests_of_all_workers(crew: Crew) -> None:
    """Live requests reach the dashboard from every worker, its figures are their sum, what the service said is left of its limit stands there, and when nobody looks on they fall silent (R158)."""

    async def look() -> None:
        async with Browser() as browser:
            origin = f"http://localhost:{crew.control[1]}"
            page = await browser.open(f"{origin}/sign-in")
            page = await browser.submit(page, password=crew.password)
            assert page.status == 200
            async with (
                aiohttp.ClientSession(cookie_jar=browser.jar, trust_env=False) as session,
                session.get(f"{origin}/live/requests?service=side") as stream,
            ):
                before, seen = crew.by_worker(), ""
                await stream.content.readline()
                while len(crew.by_worker() - before) < 2 or seen.count("/side/live") < 4:
                    assert await asyncio.to_thread(lambda: answer(crew.connected("/side/live"))) == 200
                    with contextlib.suppress(TimeoutError):
                        seen += (await asyncio.wait_for(stream.content.readline(), 0.3)).decode()
            while "No calls in the last hour" in (await browser.open(origin)).text:
                continue  # workers report once a second
            while "Calls left" not in (page := await browser.open(origin)).text:
                continue
            assert "of 5,000; lowest in the last hour 4,321" in page.text
            async with browser.session.get(f"{origin}/api/v1/rate-limits") as answered:
                (told,) = (await answered.json())["items"]
            assert (told["service"], told["remaining"], told["limit"]) == ("side", 4321, 5000)

    asyncio.run(asyncio.wait_for(look(), 20))


def test_nothing_secret_is_handed_over_where_others_can_read_it(crew: Crew) -> None:
    """A worker's command line is a file and a number, its environment the one that the server was given."""
    for worker in crew.workers():
        words = worker.cmdline()
        assert words[-2].endswith("__worker__.py")
        assert words[-1].isdigit()
        assert worker.environ() == psutil.Process(crew.pid).environ()


def test_workers_hold_no_descriptor_that_a_helper_command_would_inherit(crew: Crew) -> None:
    """What was handed down is closed on exec (0o2000000), so that no child keeps a socket of ours open."""
    for worker in crew.workers():
        folder = Path(f"/proc/{worker.pid}")
        for entry in (folder / "fd").iterdir():
            if int(entry.name) > 2 and "socket:" in str(entry.readlink()):
                flags = next(
                    line.split()[1]
                    for line in (folder / "fdinfo" / entry.name).read_text().splitlines()
                    if line.startswith("flags:")
                )
                assert int(flags, 8) & 0o2000000, entry.name


def test_a_killed_worker_takes_only_its_own_connections_with_it(crew: Crew, service: Service) -> None:
    """After kill -9 what waits to be accepted and what others hold is answered; a new worker comes (R58)."""
    slow = crew.connected("/side/slow")
    keeper = crew.holder(slow.getsockname()[1])
    victim = next(one for one in crew.workers() if one.pid != keeper.pid)
    for one in (keeper, victim):
        one.send_signal(signal.SIGSTOP)
    queued = [crew.connected() for _ in range(25)]
    victim.kill()
    keeper.send_signal(signal.SIGCONT)
    assert [answer(one) for one in queued] == [200] * 25
    service.gate.set()
    assert answer(slow) == 200
    crew.ready()
    assert victim.pid not in [one.pid for one in crew.workers()]
    ended = [one for one in crew.events() if one["event"] == "worker_ended" and one["pid"] == victim.pid]
    assert [one["how"] for one in ended] == ["signal SIGKILL"]


def test_under_load_a_killed_worker_refuses_nobody(crew: Crew) -> None:
    """Connections are never refused; the only requests lost are those that the dead process had accepted."""
    victim = crew.workers()[0]
    lost: list[int] = []
    done = threading.Semaphore(0)

    def once() -> None:
        one = crew.connected()  # a refused connection raises here
        port = one.getsockname()[1]
        if answer(one) != 200:
            lost.append(port)
        done.release()

    with calling(once):
        for _ in range(40):
            assert done.acquire(timeout=30)
        victim.send_signal(signal.SIGSTOP)
        for _ in range(20):
            assert done.acquire(timeout=30)
        held = {one.raddr.port for one in victim.net_connections("tcp") if one.raddr}
        victim.kill()
        for _ in range(40):
            assert done.acquire(timeout=30)
    assert set(lost) <= held
    crew.ready()


def test_metrics_are_summed_and_outlive_the_worker_that_counted(crew: Crew) -> None:
    """Each request counts once, whoever answered it, also after that process was killed; nothing goes down."""
    assert answer(crew.connected()) == 200
    time.sleep(1.2)  # whatever was counted has been reported
    before = crew.metrics()
    count = before["requests_total"]
    for _ in range(20):
        assert answer(crew.connected()) == 200
    until(lambda: crew.metrics()["requests_total"] == count + 20, 30, crew)
    crew.workers()[0].kill()
    until(lambda: crew.metrics()["worker_deaths_total"] > before["worker_deaths_total"], 30, crew)
    assert crew.metrics()["requests_total"] == count + 20
    crew.ready()
    for _ in range(10):
        assert answer(crew.connected()) == 200
    until(lambda: crew.metrics()["requests_total"] == count + 30, 30, crew)
    after = crew.metrics()
    assert {
        name: (before[name], after[name])
        for name in before
        if name.endswith(("_total", "_count", "_bucket", "_sum")) and after[name] < before[name]
    } == {}
    assert after["workers_ready"] == 2
    assert after["keys"] == before["keys"]


def test_a_revoked_key_counts_nowhere_once_the_command_has_ended(
    crew: Crew, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R89: the command waits for every worker; that one cannot take it in is told, and nobody is let in."""
    operator = Inside(crew.folder, capsys, monkeypatch)
    key = operator("keys", "create", "short", "--allow", "side").out.strip()
    assert {answer(crew.connected(key=key)) for _ in range(20)} == {200}
    if (
        "has not taken this in" in operator("keys", "revoke", "short").err
    ):  # a busy machine takes more than 1 s
        until(lambda: {answer(crew.connected(key=key)) for _ in range(20)} == {401}, 30, crew)
    assert {answer(crew.connected(key=key)) for _ in range(20)} == {401}
    stopped = crew.workers()[0]
    stopped.send_signal(signal.SIGSTOP)
    try:
        late = operator("keys", "create", "late", "--allow", "side")
    finally:
        stopped.send_signal(signal.SIGCONT)
    assert "has not taken this in" in late.err
    assert operator("keys", "revoke", "late").code == 0
    assert {answer(crew.connected(key=late.out.strip())) for _ in range(10)} == {401}


def test_a_worker_that_keeps_dying_is_told_and_does_not_hurt_the_other(crew: Crew) -> None:
    """Ends in a row wait longer and longer and are called a loop; the other worker answers all the while."""
    known = {one.pid for one in crew.workers()}
    victim = crew.workers()[0]
    begin = len(crew.events())
    answers: list[int] = []
    with calling(lambda: answers.append(answer(crew.connected())), threads=1):
        victim.kill()
        for _ in range(3):
            fresh = until(lambda: [one for one in crew.workers() if one.pid not in known], 30, crew)[0]
            known.add(fresh.pid)
            fresh.kill()
        until(lambda: "worker_crash_loop" in [one["event"] for one in crew.events()[begin:]], 30, crew)
        status, checks = crew.readiness()
        assert (status, checks["data_plane"]) == (503, "1 of 2 workers ready")
    assert set(answers) <= {0, 200}
    assert answers.count(0) <= 4  # a call at a process when that was killed, of which there were four
    assert answers.count(200) > 4
    delays = [one["again_in_s"] for one in crew.events()[begin:] if one["event"] == "worker_ended"]
    waits = [delay for delay in delays if delay]  # the first end of a worker that had lived costs none
    assert len(waits) > 1
    assert all(later == 2 * wait for wait, later in itertools.pairwise(waits))
    crew.ready()


def test_sigterm_to_one_worker_replaces_it_without_an_error(crew: Crew, service: Service) -> None:
    """An operator may recycle a process: it finishes what it has, the other goes on, a new one comes."""
    slow = crew.connected("/side/slow")
    leaving = crew.holder(slow.getsockname()[1])
    leaving.send_signal(signal.SIGTERM)
    assert [answer(crew.connected()) for _ in range(5)] == [200] * 5
    assert alive(leaving)
    service.gate.set()
    assert answer(slow) == 200
    assert gone([leaving])
    crew.ready()


# --- servers of their own -------------------------------------------------------------------------------


def test_reload_is_all_or_nothing_across_processes(service: Service, tmp_path: Path) -> None:
    """SIGHUP: settings that one process cannot use change none of them; good ones count in all (R160)."""
    key, hashed = declared_key()
    other, other_hashed = declared_key()
    fickle = tmp_path / "fickle.sh"
    fickle.write_text(f"echo x >> {tmp_path}/runs\n[ $(wc -l < {tmp_path}/runs) -lt 3 ] && echo {other}\n")
    declared = f'[keys.one]\nhash = "{hashed}"\nallow = ["side"]\n'
    with Crew(tmp_path / "crew", service, extra=declared) as crew:
        crew.settings.write_text(
            crew.text + f'[keys.two]\nhash = {{ command = ["sh", "{fickle}"] }}\nallow = ["side"]\n'
        )
        crew.signal(signal.SIGHUP)
        assert "worker" in crew.event("reload_refused")["reason"]
        assert {answer(crew.connected(key=other)) for _ in range(12)} == {401}
        crew.settings.write_text(
            crew.text.replace(hashed, other_hashed).replace("drain_s = 10", "drain_s = 9")
        )
        crew.signal(signal.SIGHUP)
        assert crew.event("reloaded")["after_restart"] == ["data"]
        assert {answer(crew.connected(key=other)) for _ in range(12)} == {200}
        assert {answer(crew.connected(key=key)) for _ in range(12)} == {401}
        crew.workers()[0].kill()
        crew.ready()
        assert {answer(crew.connected(key=other)) for _ in range(12)} == {200}


def test_drain_ends_every_process_and_cuts_nobody(service: Service, tmp_path: Path) -> None:
    """SIGTERM: in-flight requests of all workers end well, new ones are refused, status 0, nothing left (R70)."""
    service.gate.clear()
    with Crew(tmp_path, service) as crew:
        slow: list[socket.socket] = []
        held: set[int] = set()
        while len(held) < 2:
            slow.append(crew.connected("/side/slow"))
            held.add(crew.holder(slow[-1].getsockname()[1]).pid)
        processes = crew.workers()
        crew.signal(signal.SIGTERM)
        until(lambda: _refused(crew), 30, crew)
        assert crew.running
        service.gate.set()
        assert [answer(one) for one in slow] == [200] * len(slow)
        assert crew.wait() == 0
        assert gone(processes)
        assert not (crew.data / "server.json").exists()
        assert crew.event("stopped")["clean"] is True
        crew.whole_log()
    used = command("keys", "list", "--json", "--data-dir", str(crew.data), folder=crew.folder).document
    assert all(one["last_used_at"] for one in used)


def _refused(crew: Crew) -> bool:
    try:
        socket.create_connection(crew.address, 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_workers_outlive_their_supervisor_only_to_finish(service: Service, tmp_path: Path) -> None:
    """SIGKILL of the supervisor: workers end what they have begun, and then themselves; the port is free."""
    service.gate.clear()
    with Crew(tmp_path, service) as crew:
        slow = crew.connected("/side/slow")
        until(lambda: service.waiting, 30, crew)
        processes = crew.workers()
        os.kill(crew.pid, signal.SIGKILL)
        assert crew.wait() == -signal.SIGKILL
        until(lambda: _refused(crew), 30, crew)
        service.gate.set()
        assert answer(slow) == 200
        assert gone(processes)
        with contextlib.closing(socket.socket()) as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(crew.address)


def test_a_second_signal_ends_every_process_at_once(service: Service, tmp_path: Path) -> None:
    """R70: forced means forced, for workers too."""
    service.gate.clear()
    with Crew(tmp_path, service) as crew:
        slow = crew.connected("/side/slow")
        until(lambda: service.waiting, 30, crew)
        processes = crew.workers()
        crew.signal(signal.SIGTERM)
        crew.event("stopping")
        time.sleep(0.4)  # what comes sooner counts as the same signal
        crew.signal(signal.SIGTERM)
        assert crew.wait() == 1
        assert gone(processes)
        service.gate.set()
        assert answer(slow) == 0


def test_workers_that_cannot_start_end_the_server_with_the_reason(service: Service, tmp_path: Path) -> None:
    """Status 3 and a sentence, as for anything that keeps a server from starting; nothing stays behind."""
    tmp_path.joinpath("key.sh").write_text(
        f"echo x >> {tmp_path}/runs; [ $(wc -l < {tmp_path}/runs) = 1 ] && echo {'A' * 43} || exit 9\n"
    )
    crew = Crew(
        tmp_path / "crew",
        service,
        extra=f'[storage]\nmaster_key = {{ command = ["sh", "{tmp_path}/key.sh"] }}\n',
    ).launch()
    assert crew.wait() == 3
    assert "cannot start: " in crew.log
    assert "master key command" in crew.log


def test_workers_and_another_instance_share_a_postgresql(
    service: Service, tmp_path: Path, postgres: Postgres
) -> None:
    """R89, R152: a revocation counts in all workers at once, and on the other instance within 5 s."""
    site = {
        "CONNECTOR_PROXY_DATABASE_URL": postgres.database(empty=True).url.reveal(),
        "CONNECTOR_PROXY_MASTER_KEY": MASTER.reveal(),
    }
    with (
        Crew(tmp_path / "one", service, environment=site) as one,
        Crew(tmp_path / "two", service, workers=1, environment=site) as two,
    ):
        assert {answer(server.connected(key=one.key)) for server in (one, one, one, two)} == {200}
        one.workers()[0].kill()
        one.ready()
        where = ("--data-dir", str(one.data))
        done = command("keys", "revoke", "first", *where, folder=one.folder, extra=site)
        assert done.code == 0, done
        if "has not taken this in" in done.err:  # a busy machine takes more than 1 s
            until(lambda: {answer(one.connected()) for _ in range(12)} == {401}, 30, one)
        assert {answer(one.connected()) for _ in range(12)} == {401}
        until(lambda: answer(two.connected(key=one.key)) == 401, 30, two)
