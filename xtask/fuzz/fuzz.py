"""Fuzzes a running Everline as four callers: two tenants' admins, a viewer, and nobody.

    python3 fuzz.py URL ADMIN_KEY SECONDS SEED

Seeds two tenants with marked things, runs schemathesis for each caller at the same time, asks for every thing of tenant A
as tenant B, and prints a summary. Exits 1 if anything was found. Only the standard library here; schemathesis is on
PYTHONPATH.
"""

import collections
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PASSWORD = "correct horse battery staple 9"
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "allow_header_conformance", "no_cross_tenant_read",
]
# Whether what the document forbids is refused. Not in a brief run: what it finds depends on how far the time reaches, and is
# a matter of the document, not of safety.
LONG_CHECKS = CHECKS + ["negative_data_rejection"]
# Answers without an end, which `probe` asks, and the end of the caller's own session.
LEFT_OUT = ["/api/v1/auth/logout", "/api/v1/ws", "/api/v1/events/stream", "/api/v1/executions/{id}/stream"]


class Client:
    """What one caller sends."""

    def __init__(self, url, token):
        self.url, self.token = url, token

    def send(self, method, path, body=None, headers=None, read=None, timeout=15):
        """Status and text, whatever the status."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=dict(headers or {}))
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", "Bearer " + self.token)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, (answer.read() if read is None else answer.read1(read)).decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except TimeoutError:
            return 0, ""

    def make(self, method, path, body):
        """The JSON of an answer that must be a success."""
        status, text = self.send(method, path, body)
        if status not in (200, 201, 202):
            raise SystemExit(f"fuzz: seeding {method} {path} gave {status}: {text}")
        return json.loads(text) if text else None


def workflow(name, marker, delay_ms=None):
    """A workflow that shows its tenant's marker wherever text can stand."""
    middle = {"id": "middle", "type": "transform", "config": {"output": {"said": marker}}}
    if delay_ms:
        middle = {"id": "middle", "type": "delay", "config": {"duration_ms": delay_ms}}
    return {
        "name": f"{marker} {name}", "description": marker,
        "nodes": [{"id": "start", "type": "start"}, middle, {"id": "end", "type": "end", "config": {"output": marker}}],
        "edges": [{"source": "start", "target": "middle"}, {"source": "middle", "target": "end"}],
    }


def seed_tenant(client, marker):
    """Things of a tenant; their ids by the path segment that comes before them."""
    ids = collections.defaultdict(list)
    for number, delay in enumerate([None, 3_600_000]):
        made = client.make("POST", "/api/v1/workflows", workflow(f"w{number}", marker, delay))
        ids["workflows"].append(made["id"])
        for _ in range(4):
            body = {"input": {"said": marker}, "wait_ms": 2000 if delay is None else 0, "attributes": {"mark": marker}}
            started = client.make("POST", f"/api/v1/workflows/{made['id']}/execute", body)
            ids["executions"].append(started["execution_id"])
    # What is asked for may come back in a refusal, so names in paths are no markers.
    plain = f"of_{marker[6].lower()}"
    client.make("PUT", f"/api/v1/variables/{plain}", {"value": marker})
    ids["variables"].append(plain)
    ids["versions"] = ["1"]
    ids["signals"] = ["approved"]
    ids["errors"] = ["internal", "nothing"]
    body = {"action": "signal", "signal": marker, "filter": {"status": "failed"}, "reason": marker, "dry_run": False}
    ids["bulk"].append(client.make("POST", "/api/v1/executions/bulk", body)["id"])
    grants = [{"permission": "workflow:read", "reach": "own"}]
    client.make("POST", "/api/v1/roles", {"name": plain, "description": marker, "grants": grants})
    ids["roles"].append(plain)
    for number in range(2):
        # Not the callers themselves: who disables them ends the run.
        body = {"email": f"victim{number}@{marker.lower()}.test", "password": PASSWORD, "role": "USER"}
        ids["users"].append(client.make("POST", "/api/v1/users", body)["id"])
        key = client.make("POST", "/api/v1/api-keys", {"name": f"{marker} {number}", "scopes": ["workflow:read"]})
        ids["api-keys"].append(key["id"])
    return ids


def login(url, email):
    """An access token."""
    body = {"email": email, "password": PASSWORD}
    return Client(url, None).make("POST", "/api/v1/auth/login", body)["access_token"]


def seed(url, admin_key):
    """The callers: name, token, ids that are offered to them, texts that they must not see."""
    operator = Client(url, admin_key)
    tenants = {}
    for tenant in ("a", "b"):
        slug, email = f"fuzz-{tenant}", f"admin@fuzz-{tenant}.test"
        operator.make("POST", "/api/v1/tenants", {"name": slug, "admin": {"email": email, "password": PASSWORD}})
        marker = f"MARKER{tenant.upper()}7F3A"
        client = Client(url, login(url, email))
        # A key lives longer than an access token, and outlives the sessions that the fuzz ends.
        key = client.make("POST", "/api/v1/api-keys", {"name": f"fuzz {tenant}", "scopes": ["*"]})["key"]
        client = Client(url, key)
        tenants[tenant] = (client, marker, seed_tenant(client, marker))
    (a, mark_a, ids_a), (b, mark_b, ids_b) = tenants["a"], tenants["b"]
    a.make("POST", "/api/v1/users", {"email": "viewer@fuzz-a.test", "password": PASSWORD, "role": "VIEWER"})
    viewer = Client(url, login(url, "viewer@fuzz-a.test"))
    keys = set(ids_a) | set(ids_b)
    both = {key: ids_a[key] + ids_b[key] for key in keys}
    return {
        "admin of A": (a, both, [mark_b, mark_b.lower()]),
        "admin of B": (b, both, [mark_a, mark_a.lower()]),
        "viewer of A": (viewer, both, [mark_b, mark_b.lower()]),
        "nobody": (Client(url, None), both, [mark_a, mark_b, mark_a.lower(), mark_b.lower()]),
    }, ids_a


def start(folder, url, name, caller, seconds, seed_number):
    """A schemathesis of one caller, under way."""
    client, ids, foreign = caller
    base = os.path.join(folder, name.replace(" ", "-"))
    with open(base + ".json", "w", encoding="utf-8") as file:
        json.dump({"ids": ids, "foreign": foreign}, file)
    brief = seconds < 60
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", url + "/api/v1/openapi.json", "--no-color",
        "--checks", ",".join(CHECKS if brief else LONG_CHECKS), "--max-time", str(seconds), "--seed", str(seed_number), "--workers", "1",
        "--phases", "examples,fuzzing" if brief else "examples,coverage,fuzzing", "--no-shrink",
        "--request-timeout", "20", "--suppress-health-check", "all",
        "--warnings", "off", "--continue-on-failure", "--max-examples", "3" if brief else "100",
    ]
    command += ["--generation-deterministic"] if brief else ["--generation-database", "none"]
    if client.token:
        command += ["--header", f"Authorization: Bearer {client.token}"]
    for path in LEFT_OUT:
        command += ["--exclude-path", path]
    environment = dict(os.environ, FUZZ_STATE=base + ".json", FUZZ_TALLY=base + ".tally", SCHEMATHESIS_HOOKS="hooks")
    environment["PYTHONPATH"] = HERE + os.pathsep + environment.get("PYTHONPATH", "")
    log = open(base + ".log", "w", encoding="utf-8")
    return base, subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)


def probe(callers, ids_a):
    """Every thing of A, asked for by B: not there, for reads and writes, and in no list."""
    client, _, foreign = callers["admin of B"]
    found = []

    def check(what, status, text, wanted):
        if status not in wanted or any(marker in text for marker in foreign):
            found.append(f"B asked for {what} of A: {status} {text[:200]}")

    for key in ("workflows", "executions", "users", "api-keys"):
        for thing in ids_a[key]:
            check(f"{key}/{thing}", *client.send("GET", f"/api/v1/{key}/{thing}"), (404,))
    for key in ("variables", "roles"):
        for thing in ids_a[key]:
            # A name may be taken in both tenants; then it is another thing.
            check(f"{key}/{thing}", *client.send("GET", f"/api/v1/{key}/{thing}"), (404, 200))
    for thing in ids_a["bulk"]:
        check(f"bulk/{thing}", *client.send("GET", f"/api/v1/executions/bulk/{thing}"), (404,))
    for thing in ids_a["executions"]:
        for part in ("events", "state", "nodes", "diff", "stream"):
            check(f"{part} of {thing}", *client.send("GET", f"/api/v1/executions/{thing}/{part}"), (404,))
        for verb in ("cancel", "terminate", "pause", "resume", "retry", "signals/x"):
            check(f"{verb} of {thing}", *client.send("POST", f"/api/v1/executions/{thing}/{verb}", {}), (404,))
    for path in ("workflows", "executions", "events", "users", "api-keys", "roles", "variables", "executions/bulk", "audit"):
        check(f"the list {path}", *client.send("GET", f"/api/v1/{path}?limit=200"), (200,))
    check("the stream of events", *client.send("GET", "/api/v1/events/stream", read=65536, timeout=2), (200, 0))
    for name, (caller, _, _) in callers.items():
        status, text = caller.send("GET", "/api/v1/auth/me")
        if status != (401 if name == "nobody" else 200):
            found.append(f"{name} is no longer who they were: {status} {text[:200]}")
    return found


def tally(base):
    """Operations with a success, all operations, answers."""
    answers = collections.Counter()
    try:
        with open(base + ".tally", encoding="utf-8") as file:
            answers.update(line.strip() for line in file)
    except FileNotFoundError:
        pass
    operations = {line.rsplit(" ", 1)[0] for line in answers}
    good = {line.rsplit(" ", 1)[0] for line in answers if line.rsplit(" ", 1)[1].startswith("2")}
    return len(good), len(operations), sum(answers.values())


def main():
    url, admin_key, seconds, seed_number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    callers, ids_a = seed(url, admin_key)
    failed = False
    found = probe(callers, ids_a)
    with tempfile.TemporaryDirectory(prefix="everline-fuzz-") as folder:
        runs = {name: start(folder, url, name, caller, seconds, seed_number) for name, caller in callers.items()}
        for name, (base, process) in runs.items():
            code = process.wait()
            good, operations, answers = tally(base)
            verdict = "fine" if code == 0 else f"FOUND SOMETHING (exit {code})"
            print(f"{name}: {answers} answers of {operations} operations, {good} of them with a success: {verdict}")
            # A caller whose requests reach nothing proves nothing.
            hollow = answers == 0 or (name.startswith("admin") and good * 3 < operations)
            if code != 0 or hollow:
                failed = True
                with open(base + ".log", encoding="utf-8") as log:
                    print(log.read())
    found += probe(callers, ids_a)
    for line in found:
        print(line)
    print("fuzz: nothing found" if not (failed or found) else "fuzz: see above")
    sys.exit(1 if failed or found else 0)


if __name__ == "__main__":
    main()
