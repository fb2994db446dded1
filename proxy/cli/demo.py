"""``demo``: see a call go through within seconds, without an account anywhere."""

import sys
from typing import Annotated

import typer

from proxy import lifecycle
from proxy.cli import output
from proxy.cli.session import FAILED, JsonOption, run_loop
from proxy.demo import PATH, Call, Demo, Ready
from proxy.sandbox import HOST, SERVICE, Seen

_SHOWN = frozenset({"host", "authorization", "via", "x-api-key"})


def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Make one call and end: exit status 0 if it went well.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a proxy before a made-up service on this machine, and show what each side sees."""
    lifecycle.require_environment()

    def ready(state: Ready) -> None:
        if as_json:
            output.document(_as_json(state))
        else:
            _tell(state, once=once)
        sys.stdout.flush()

    def received(seen: Seen) -> None:
        if not as_json:
            output.line("\nThe service received:")
            _tell_seen(seen)

    ok = run_loop(Demo(once=once, on_ready=ready, on_request=received).run())
    if not ok:
        raise typer.Exit(FAILED)


def _as_json(state: Ready) -> dict[str, object]:
    call = state.call
    return {
        "ok": call.ok,
        "status": call.status,
        "url": call.url,
        "key": call.key,
        "data": state.base,
        "control": state.control,
        "password": state.password,
        "config": str(state.config),
    }


def _tell(state: Ready, *, once: bool) -> None:
    call = state.call
    output.line("1. A program calls the proxy with a proxy key:\n")
    output.line(f"   GET {call.url}")
    output.line(f"   Authorization: Bearer {call.key}\n")
    output.line(f"2. The service, https://{HOST}, receives its real token, and nothing of the key:\n")
    if call.seen is None:
        output.line("   nothing")
    else:
        _tell_seen(call.seen)
    output.line(f"\n3. The program gets the service's answer, {call.status}:\n")
    output.line(f"   {call.answer}\n")
    if not call.ok:
        output.note("This is not as it should be.")
    if not once:
        _tell_more(state, call)


def _tell_seen(seen: Seen) -> None:
    output.line(f"   {seen.method} {seen.target}")
    for name, value in seen.fields:
        if name.lower() in _SHOWN:
            output.line(f"   {name}: {value}")


def _tell_more(state: Ready, call: Call) -> None:
    output.line("Try it yourself, from another terminal:\n")
    output.line(f"   curl -H 'Authorization: Bearer {call.key}' {state.base}{PATH}\n")
    output.line(
        f'   python3 -c \'import urllib.request as u; r = u.Request("{state.base}{PATH}", '
        f'headers={{"X-Api-Key": "{call.key}"}}); print(u.urlopen(r).read().decode())\'\n'
    )
    output.line("From the command line, for example:\n")
    output.line(f"   connector-proxy connect {SERVICE} --config {state.config}")
    output.line(f"   connector-proxy keys list --config {state.config}")
    output.line(f"   curl {state.control}/metrics\n")
    output.line("In a browser: connect an account, make keys, watch what happens:\n")
    output.line(f"   {state.control}/services/{SERVICE}")
    output.line(f"   password: {state.password}\n")
    output.line("Everything lies in a temporary folder. Ctrl-C ends the demo and removes it.")
