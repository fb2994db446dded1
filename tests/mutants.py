"""Do the tests notice? Plants one fault at a time in a copy of the program and runs the tests that must fail.

``python tests/mutants.py [NAME...]`` prints ``killed`` or ``SURVIVED`` for each and ends with 1 when one survives,
no longer applies to the source, or stops the tests from running. Every fault is one that a proxy of this kind has
had somewhere; the tests named beside it are the quickest that have to notice it.
"""

import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parent.parent
COPIED = ("proxy", "tests", "config", "pyproject.toml")
WORKERS = 2
LIMIT_S = 90
KILLED, PASSED = 1, 0  # pytest's exit codes; any other says that the tests did not run


@dataclass(frozen=True, slots=True)
class Mutant:
    """``edits``: pairs of text that stands exactly once in ``file`` and what replaces it."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: str


def mutant(name: str, file: str, old: str, new: str, tests: str) -> Mutant:
    return Mutant(name, f"proxy/{file}", ((old, new),), tests)


GATE, ROUTING, REWRITE = "forwarding/gate.py", "forwarding/routing.py", "forwarding/rewrite.py"
PERMITS, KEYS, REPEAT = "forwarding/permits/verdicts.py", "forwarding/keys.py", "forwarding/repeat.py"
ANSWER, FRAMING, POOL = "forwarding/answer.py", "forwarding/framing.py", "forwarding/pool.py"
UPSTREAM, ADMISSION, SEAL = "forwarding/upstream.py", "forwarding/handler/admission.py", "connectors/seal.py"
SENT_BACK = "forwarding/links/sent_back.py"
CAPABILITY, IDENTITY = "forwarding/links/capability.py", "control/oidc/identity.py"
UNIT = "tests/unit"
AUDIT = "tests/store/test_audit_chain.py -k sqlite"

MUTANTS = (
    # requests: one reading
    mutant(
        "length and coding together are taken", GATE,
        '    if length is not None:\n        raise BadRequest("Content-Length and', '    if False:\n        raise BadRequest("Content-Length and',
        f"{UNIT}/test_gate.py",
    ),
    mutant("any coding that holds chunked", GATE, 'if coding.lower() != b"chunked":', 'if b"chunked" not in coding.lower():', f"{UNIT}/test_gate.py"),
    mutant("two Host fields", GATE, "if lower in seen and lower in SINGLETONS:", "if lower in seen and lower in SINGLETONS - {b'host'}:", f"{UNIT}/test_gate.py"),
    mutant("control characters in values", GATE, "if len(section.translate(None, CONTROLS)) != len(section):", "if False:", f"{UNIT}/test_gate.py"),
    # targets: one meaning
    mutant("no check of dot segments", ROUTING, "    refuse_dot_segments(path)\n    first, slash", "    first, slash", f"{UNIT}/test_routing.py"),
    mutant("dot segments are not decoded", ROUTING, "_DECODINGS = 2", "_DECODINGS = 0", f"{UNIT}/test_routing.py"),
    mutant("prefix match without a segment's end", ROUTING, 'return path == prefix or path.startswith(prefix + b"/")', "return path.startswith(prefix)", f"{UNIT}/test_routing.py"),
    mutant("service names in any case", ROUTING, '.decode("ascii").partition("@")\n    if not at', '.decode("ascii").lower().partition("@")\n    if not at', f"{UNIT}/test_routing.py"),
    # what leaves towards the service
    mutant("Host of the caller", REWRITE, "target, injection.start, *kept", 'target, b" HTTP/1.1\\r\\nHost: %b\\r\\n" % head.host, *kept', f"{UNIT}/test_rewrite.py"),
    mutant("the caller's Authorization stays", "forwarding/injection.py", "lambda name: name not in dropped", 'lambda name: name == b"authorization" or name not in dropped', f"{UNIT}/test_handler_credentials.py"),
    mutant("fields named in Connection stay", REWRITE, "passes, named = injection.passes, head.connection_names", "passes, named = injection.passes, frozenset()", f"{UNIT}/test_rewrite.py"),
    mutant("look-alikes of dropped fields stay", REWRITE, "folded := fold(item[0])", "folded := item[0]", f"{UNIT}/test_rewrite.py"),
    mutant("underscores everywhere", REWRITE, "if not injection.service.header_underscores:", "if False:", f"{UNIT}/test_rewrite.py"),
    mutant("the key may leave in odd places", REWRITE, "    if _holds(out, key):\n", "    if False:\n", f"{UNIT}/test_rewrite.py"),
    mutant("a token with a line end", "forwarding/injection.py", "        or text.encode().translate(None, _PRINTABLE)\n", "", f"{UNIT}/test_rewrite.py"),
    # who may
    mutant("no check of permits", ADMISSION, "    check(grant.permits, service, name, method, route.path)\n", "", f"{UNIT}/test_handler_credentials.py"),
    mutant(
        "permits are checked after the account", ADMISSION,
        "    check(grant.permits, service, name, method, route.path)\n    return credential or await obtain(service.type_id, route.connection)\n",
        "    credential = credential or await obtain(service.type_id, route.connection)\n    check(grant.permits, service, name, method, route.path)\n    return credential\n",
        f"{UNIT}/test_handler_credentials.py",
    ),
    mutant("permits for any method", PERMITS, "        and (permit.methods is None or method in permit.methods)\n", "", f"{UNIT}/test_permits.py"),
    mutant("permits for any connection", PERMITS, "if (permit.connection is None or permit.connection == connection)", "if True", f"{UNIT}/test_permits.py"),
    mutant("permits on the raw path alone", PERMITS, 'if b"%" in path and _fits(about, decode_once(path)) is not verdict:', "if False:", f"{UNIT}/test_permits.py"),
    mutant("credential paths are open", PERMITS, "    if closed:\n", "    if False:\n", f"{UNIT}/test_permits.py"),
    mutant("expired keys", KEYS, " and record.is_live(now)", "", f"{UNIT}/test_forwarding_keys.py"),
    mutant("keys from any network", KEYS, " and (not record.networks or _within(record, peer_ip))", "", f"{UNIT}/test_forwarding_keys.py"),
    mutant("capability addresses for ever", CAPABILITY, " or now >= int(parts[1])", "", f"{UNIT}/test_links.py"),
    mutant("capability addresses of anybody", CAPABILITY, "not hmac.compare_digest(mac, parts[3].encode())", "False", f"{UNIT}/test_links.py"),
    mutant("capability addresses outlive the key's digest", CAPABILITY, "hmac.digest(self.secret, record.digest, hashlib.sha256)", "self.secret", f"{UNIT}/test_links.py"),
    mutant("look-alikes of presigned hosts", "forwarding/links/addresses.py", "host.endswith(one.host[1:])", "host.endswith(one.host[2:])", f"{UNIT}/test_links.py"),
    mutant("texts that hold an address are mapped", "forwarding/links/members.py", "            elif names.wanted(name):", "            elif True:", "tests/properties/test_links_properties.py"),
    mutant("an answer of another coding is mapped", "forwarding/links/rewriting.py", "answer.coded or ", "", f"{UNIT}/test_links.py"),
    # bodies: what goes to a service in them
    mutant("addresses of other services are sent back", SENT_BACK, "known is None or known.type_id != service.type_id", "known is None", f"{UNIT}/test_sent_back.py"),
    mutant("addresses of other connections are sent back", SENT_BACK, "if route.connection not in {None, whose.connection}:", "if False:", f"{UNIT}/test_sent_back.py"),
    mutant("capability addresses of other keys are sent back", "forwarding/handler/bodies.py", "if grant.record.key_id != arrived.grant.record.key_id:", "if False:", "tests/flow/test_addresses_sent_back.py -k own_key"),
    mutant("objects in arrays count as the array does", SENT_BACK, "all_count = in_object and names is not None and names.is_parent(name)", "all_count = names is None or all_count", "tests/properties/test_sent_back_properties.py"),
    mutant("what follows a form's beginning is not watched", "forwarding/held.py", "return Freed(head, body, watched=True, rest=True)", "return Freed(head, body, watched=False, rest=True)", "tests/flow/test_body_keys.py -k elsewhere"),
    mutant("a key at the end of a form's beginning", "forwarding/upload.py", 'body[-len(watch) :] if body and watch else b""', 'b""', "tests/flow/test_body_keys.py -k elsewhere"),
    mutant("a part that names 401 is refused", "forwarding/nested/refused.py", "_STATUS_LINE.match(head)", "_STATUS_LINE.search(head)", f"{UNIT}/test_refused_parts.py"),
    mutant("two different keys", KEYS, "if len(found) > 1 and any(other != key for other in found):", "if False:", f"{UNIT}/test_forwarding_keys.py"),
    # what a connection remembers
    mutant("a revoked key on a kept connection", REPEAT, " or keyring is not self._keyring", "", "tests/properties/test_repeat.py"),
    mutant("an expired key on a kept connection", REPEAT, " or not grant.record.is_live(now)", "", "tests/properties/test_repeat.py"),
    mutant("one caller's grant for another's key", REPEAT, "        self._grant = self._tail = self.sent = None\n        return presented", "        return presented", "tests/properties/test_repeat.py"),
    mutant("a key in a body leaves its grant behind", REPEAT, "        if presented is not self._presented:  # found elsewhere (in a body): nothing of it is kept\n            return keyring", "        if False:\n            return keyring", "tests/properties/test_repeat.py"),
    mutant("an admission outlives its keys", ADMISSION, "            and last.terms is self.terms\n", "", f"{UNIT}/test_handler_credentials.py"),
    # answers
    mutant("an answer with length and coding", FRAMING, "if chunked and length is not None:", "if False:", f"{UNIT}/test_answer_framing.py"),
    mutant("fields named in an answer's Connection", FRAMING, "if options and not options <= _NOT_NAMES:", "if False:", f"{UNIT}/test_answer_framing.py"),
    mutant("a cut body is whole", ANSWER, 'self.head is not None and self.head.body == "eof" and', "self.head is not None and", f"{UNIT}/test_answer_reader.py"),
    mutant("a line end behind an answer", ANSWER, "self.extra = self.extra or self._behind >", "self.extra = self.extra or 100 + self._behind <", f"{UNIT}/test_answer_reader.py"),
    mutant("trailers without end", ANSWER, "if self._quiet > MAX_HEAD_BYTES:", "if False:", f"{UNIT}/test_answer_reader.py"),
    mutant("a cut answer ends well", "forwarding/relay.py", "        self._caller.abort()\n", '        self._caller.write(b"0\\r\\n\\r\\n")\n        self._caller.end(linger=False)\n', f"{UNIT}/test_handler_faults.py"),
    # connections to services
    mutant("reuse after extra bytes", UPSTREAM, "(reader.extra or self._lost", "(self._lost", f"{UNIT}/test_upstream.py"),
    mutant("reuse after half an upload", UPSTREAM, " or self.uploading or self._paused_writing)", " or self._paused_writing)", f"{UNIT}/test_upstream.py"),
    Mutant(
        "one pool for all names of an address", f"proxy/{POOL}",
        (
            ("            lane = (origin.scheme, origin.host,", "            lane = (origin.scheme, '',"),
            ("connection.lane = (origin.scheme, origin.host,", "connection.lane = (origin.scheme, '',"),
        ),
        f"{UNIT}/test_pool.py",
    ),
    mutant("a POST is sent again", "forwarding/exchange.py", 'b"PUT", b"DELETE"})', 'b"PUT", b"DELETE", b"POST"})', f"{UNIT}/test_handler_faults.py"),
    mutant("a body is replayed of which something is missing", "forwarding/handler/sending.py", " and exchange.replayable:", ":", f"{UNIT}/test_replay.py"),
    mutant("bodies are kept without a bound", "forwarding/upload.py", "if self.size > self._limits.replay_bytes:", "if self.size < 0:", f"{UNIT}/test_replay.py"),
    mutant("a missing scope is a refused token", "forwarding/refusal.py", "    if any(_fits(entry, document) for entry in rule.never):\n        return False\n", "", f"{UNIT}/test_refusal.py"),
    mutant("no check of permits on the short way", ADMISSION, "        check(grant.permits, route.service, credential.connection, method, route.path)\n", "", f"{UNIT}/test_handler_credentials.py"),
    mutant("a caller that left holds the service's connection", "forwarding/direct.py", "        self.exchange.drop()\n        self.record.outcome", "        self.record.outcome", f"{UNIT}/test_direct.py"),
    mutant("known bytes are a request anywhere", "forwarding/receiving.py", "            and not self._head_raw\n            and self._begun_directly(same[1])", "            and self._begun_directly(same[1])", f"{UNIT}/test_direct.py"),
    mutant("trailing spaces in an ordinary head", FRAMING, '_VALUE = rb"([^\\x00-\\x20\\x7f][^\\x00-\\x1f\\x7f]*)(?<! )"', '_VALUE = rb"([^\\x00-\\x20\\x7f][^\\x00-\\x1f\\x7f]*)"', "tests/properties/test_answer_differential.py -k expected"),
    mutant("private addresses are dialled", "forwarding/egress.py", "        if not self._lists(address, reason):\n            return reason\n", "        if not self._lists(address, reason):\n            return None\n", f"{UNIT}/test_egress.py"),
    # the vault
    Mutant(
        "sealed without associated data", f"proxy/{SEAL}",
        (
            ("encrypt(nonce, plaintext, _associated_data(place, self.key_id))", "encrypt(nonce, plaintext, None)"),
            ("decrypt(nonce, sealed, _associated_data(place, self.key_id))", "decrypt(nonce, sealed, None)"),
        ),
        f"{UNIT}/test_seal.py",
    ),
    mutant("one nonce for all", SEAL, "nonce = os.urandom(_NONCE_BYTES)", "nonce = bytes(_NONCE_BYTES)", f"{UNIT}/test_seal.py"),
    mutant("tokens in the clear", "connectors/rows.py", "sealed[column] = ring.seal(token.reveal().encode(), token_place(row, column))", "sealed[column] = ring.seal(b'', token_place(row, column)) + token.reveal().encode()", "tests/store/test_vault.py -k plaintext"),
    mutant("an edited row leads a token elsewhere", "connectors/rows.py", 'row["service"], row["config"], row["scheme"]]', 'row["service"]]', "tests/store/test_vault.py -k edited"),
    # signing in
    mutant("ID tokens of any algorithm", IDENTITY, "not isinstance(algorithm, str) or algorithm not in ALGORITHMS", "False", f"{UNIT}/test_oidc_tokens.py"),
    mutant("ID tokens of any issuer", IDENTITY, "            issuer=proof.issuer,\n", "", f"{UNIT}/test_oidc_tokens.py"),
    mutant("ID tokens issued to another app", IDENTITY, "if party is not None and party != proof.client_id:", "if False:", f"{UNIT}/test_oidc_tokens.py"),
    mutant("ID tokens for several apps", IDENTITY, "if isinstance(audience, list) and len(audience) > 1 and party is None:", "if False:", f"{UNIT}/test_oidc_tokens.py"),
    mutant("ID tokens of another attempt", IDENTITY, " or not hmac.compare_digest(nonce.encode(), proof.nonce.reveal().encode())", "", f"{UNIT}/test_oidc_tokens.py"),
    mutant("ID tokens that ran out", IDENTITY, "if over >= LEEWAY_S:", "if False:", f"{UNIT}/test_oidc_tokens.py"),
    mutant("ID tokens with times that are none", IDENTITY, " and 0 <= value < _LAST_MOMENT", "", f"{UNIT}/test_oidc_tokens.py"),
    mutant("keys for encryption sign", IDENTITY, '            and key.get("use", "sig") == "sig"\n', "", f"{UNIT}/test_oidc_tokens.py"),
    mutant("short keys sign", IDENTITY, '"enforce_minimum_key_length": True', '"enforce_minimum_key_length": False', f"{UNIT}/test_oidc_tokens.py"),
    mutant("answers of any attempt", "control/oidc/pages.py", " or not attempt.is_state(states[0])", "", "tests/flow/test_oidc.py -k answers"),
    mutant("attempts for ever", "control/oidc/attempt.py", " and now < expires_at", "", "tests/flow/test_oidc.py -k answers"),
    mutant("answers of any provider", "control/oidc/messages.py", 'and values.get("iss") != metadata.issuer', "and False", "tests/flow/test_oidc.py -k answers"),
    mutant("discovery of any provider", "control/oidc/metadata.py", "    if told != issuer:\n", "    if False:\n", "tests/flow/test_oidc.py -k says_what"),
    mutant("claims of another person", "control/oidc/provider.py", ' or told.get("sub") != claims["sub"]', "", "tests/flow/test_oidc.py -k people"),
    mutant("addresses that nobody verified", "control/oidc/admission.py", "if self.verified and not _is_vouched_for(claims):", "if False:", "tests/flow/test_oidc.py -k people"),
    mutant("addresses that look alike", "control/oidc/admission.py", "isinstance(told, str) and told.isascii()", "isinstance(told, str)", "tests/flow/test_oidc.py -k people"),
    mutant("an address given to somebody else", "connectors/vault_users.py", "    if tied.subject != account.subject:\n", "    if False:\n", "tests/store/test_known_users.py -k sqlite"),
    # the audit
    mutant("the chain leaves out what a row tells", "connectors/audit_chain.py", '"subject", "detail", "chained")', '"subject", "chained")', AUDIT),
    mutant("rows may be missing in the chain", "connectors/audit_chain.py", "        if number > self.number + 1:\n", "        if False:\n", AUDIT),
    mutant("rows are cut off at the end", "connectors/audit_chain.py", "        if self.number < head.number:\n", "        if False:\n", AUDIT),
    mutant("a forged head is followed without a word", "connectors/audit_log.py", "        if found and self._chain.is_genuine(found[0]):\n", "        if found:\n", AUDIT),
    mutant("retention hides what was changed", "connectors/audit_log.py", "        if walk.count:\n", "        if False:\n", AUDIT),
    mutant("a revoked token sees on", "control/api/events.py", "if now - checked >= self.check_s:", "if False:", "tests/flow/test_admin_events.py -k revoked"),
    mutant("forms do what the role may not", "control/operating.py", "        if not grants(scopes, operation.scopes):\n", "        if False:\n", "tests/flow/test_users.py -k no_more"),
    # what lasts long
    mutant("our own work counts as waiting", "control/listener.py", "            self._looks = 0  # what takes so long", "            pass  # what takes so long", f"{UNIT}/test_control_health.py -k at_work"),
    mutant("no search before an open attempt", "connectors/refresh/lease.py", " and wanted.searched != lease.fence:", " and False:", "tests/store/test_refresh_restart.py -k sqlite"),
    mutant("an answer left out at a stop", "connectors/refresh/unsaved.py", "            for entry in self._unwritten.values():", "            for entry in ():", "tests/store/test_refresh_restart.py"),
    mutant("a silent address is waited for", "forwarding/racing.py", "ATTEMPT_DELAY_S = 0.25", "ATTEMPT_DELAY_S = 3600.0", f"{UNIT}/test_racing.py"),
    mutant("addresses end with the resolver", "forwarding/known.py", "            result = self._keep(origin, FAILURE_TTL_S) or result", "            pass", f"{UNIT}/test_egress.py"),
    mutant("the last answer does not say so", "forwarding/exchange.py", "            if caller.is_last:", "            if False:", f"{UNIT}/test_last_answer.py"),
)  # fmt: skip


def copy(to: Path) -> Path:
    for name in COPIED:
        if (ROOT / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__", "node_modules", ".hypothesis", "*.pyc")
            shutil.copytree(ROOT / name, to / name, ignore=skip)
        else:
            shutil.copy(ROOT / name, to / name)
    return to


def run(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Runs tests in the copy, with a path of its own, so that the copy's program is the one that runs."""
    command = [
        sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:randomly", "-p", "no:cacheprovider",
        "--hypothesis-seed=0", *tests.split(" ", 2),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def verdict(folder: Path, one: Mutant) -> str:
    """killed, or what is wrong."""
    path = folder / one.file
    original = path.read_text()
    text = original
    for old, new in one.edits:
        if text.count(old) != 1:
            return f"STALE: {old.strip()[:60]!r} stands {text.count(old)} times in {one.file}"
        text = text.replace(old, new)
    path.write_text(text)
    try:
        done = run(folder, one.tests)
    except subprocess.TimeoutExpired:
        return "killed"  # it hangs: a timeout kills it in any suite
    finally:
        path.write_text(original)
    if done.returncode == KILLED and " failed" in done.stdout:
        return "killed"
    return "SURVIVED" if done.returncode == PASSED else f"BROKEN: {done.stdout[-400:]}{done.stderr[-400:]}"


def main(names: list[str]) -> int:
    """Runs all mutants, or those whose names hold one of ``names``."""
    chosen = [one for one in MUTANTS if not names or any(name in one.name for name in names)]
    began, bad = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        folders: Queue[Path] = Queue()
        for number in range(WORKERS):
            folders.put(copy(Path(place) / str(number)))

        def work(one: Mutant) -> tuple[Mutant, str]:
            mine = folders.get()
            try:
                return one, verdict(mine, one)
            finally:
                folders.put(mine)

        def sound(tests: str) -> tuple[str, subprocess.CompletedProcess[str]]:
            mine = folders.get()
            try:
                return tests, run(mine, tests)
            finally:
                folders.put(mine)

        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for tests, done in pool.map(sound, sorted({one.tests for one in chosen})):
                if done.returncode != PASSED:  # a test that fails anyway proves nothing
                    print(
                        f"without any mutant these fail: {tests}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
                    )
                    return 1
            for one, said in pool.map(work, chosen):
                bad += said != "killed"
                print(f"{said:10} {one.name}  ({one.tests})", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} killed in {time.monotonic() - began:.0f} s")
    return 1 if bad or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
