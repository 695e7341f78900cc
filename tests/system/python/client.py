"""Makes a client of a running umbel from its document, works with it, and stops it: `client.py URL FOLDER PID`."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request as Asked, urlopen

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

url, folder, pid = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
document = json.load(urlopen(f"{url}/api/openapi.json"))

OpenAPIV31SpecValidator(document).validate()
shapes = [re.sub(r"\{[^}]*\}", "{}", path) for path in document["paths"]]
assert len(shapes) == len(set(shapes)), "two paths differ only in the names of their parameters"

# What is really answered has the form that is written, and nothing besides.
strict = json.loads(json.dumps(document["components"]["schemas"]))
for schema in strict.values():
    if schema.get("properties"):
        schema["additionalProperties"] = False


def check(name, value):
    # The fields of a union are judged together, where it is judged at all.
    root = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": strict}}
    Draft202012Validator(root).validate(value)


def answer(path, data=None):
    request = f"{url}{path}"
    return json.load(urlopen(request, data=data))


def refusal(method, path, data=None, headers={}):
    """The problem document of what is refused."""
    try:
        urlopen(Asked(f"{url}{path}", data, headers, method=method))
    except HTTPError as error:
        assert error.headers["content-type"] == "application/problem+json", error.headers
        problem = json.load(error)
        check("Problem", problem)
        assert problem["status"] == error.code
        return problem
    raise AssertionError(f"{method} {path} is not refused")


sent = answer("/api/tasks/hello.greet?wait=30s", b'{"args": ["you"]}')
check("Run", sent)
answer("/api/tasks/hello.fail?wait=30s", b"{}")
assert answer("/api/tasks?state=FAILURE")["tasks"], "a failure is listed"
check("Submitted", answer("/api/tasks/hello.greet", b'{"kwargs": {"name": "you"}, "countdown": "1h", "id": "later"}'))
check("SubmittedMany", answer("/api/tasks", b'[{"task": "hello.greet", "args": ["you"]}]'))
for path, name in [
    ("/healthz", "Health"),
    ("/readyz", "Health"),
    ("/api/catalog", "Catalog"),
    ("/api/catalog/hello.greet", "Task"),
    ("/api/dead-letters", "DeadLetters"),
    ("/api/plugins", "Plugins"),
    ("/api/queues", "Queues"),
    ("/api/queues/celery", "Queue"),
    ("/api/schedules", "Schedules"),
    ("/api/tasks", "Listing"),
    ("/api/tasks/later", "Run"),
    (f"/api/tasks/{sent['id']}/source", "Source"),
    ("/api/workers", "Workers"),
]:
    check(name, answer(path))
for method, path, data, headers, status in [
    ("POST", "/api/tasks/hello.gret", b"{}", {}, 404),
    ("POST", "/api/tasks/broken.one", b"{}", {}, 404),
    ("POST", "/api/tasks/hello.greet", b"{", {}, 400),
    ("POST", "/api/tasks/hello.greet", b'{"arg": []}', {}, 422),
    ("POST", "/api/tasks/hello.greet", b'{"args": []}', {}, 422),
    ("POST", "/api/tasks/hello.greet", b'{"args": ["you"], "id": "later"}', {}, 409),
    ("POST", "/api/tasks/hello.greet", b" " * (1 << 20) + b"{}", {}, 413),
    ("POST", "/api/tasks/hello.greet", b"{}", {"content-encoding": "gzip"}, 415),
    ("POST", "/api/tasks/hello.greet", b"{}", {"idempotency-key": ""}, 422),
    ("POST", "/api/tasks", b'[{"task": "hello.greet", "args": ["you"]}, {"task": "hello.gret"}]', {}, 404),
    ("GET", "/api/tasks?limit=0", None, {}, 422),
    ("GET", "/api/tasks?cursor=x", None, {}, 422),
    ("GET", "/api/tasks/nobody", None, {}, 404),
    ("GET", "/api/tasks/later?wait=long", None, {}, 422),
    ("GET", "/api/tasks/later?wiat=1s", None, {}, 422),
    ("GET", "/api/tasks/later/events?before=x", None, {}, 422),
    ("GET", "/api/tasks/later/source", None, {}, 404),
    ("POST", "/api/tasks/later/retry", b"", {}, 409),
    ("POST", "/api/tasks/later/revoke", b"[", {}, 400),
    ("GET", "/api/queues/nothing", None, {}, 404),
    ("POST", "/api/queues/%01/pause", b"", {}, 422),
    ("GET", "/api/dead-letters?limit=x", None, {}, 422),
    ("DELETE", "/api/tasks", None, {}, 405),
    ("GET", "/api/tasks", None, {"origin": "http://evil.example"}, 403),
    ("GET", "/api/nothing", None, {}, 404),
]:
    problem = refusal(method, path, data, headers)
    assert problem["status"] == status, problem
check("Queue", answer("/api/queues/celery/pause", b""))
check("Queue", answer("/api/queues/celery/resume", b""))
check("Revocation", answer("/api/tasks/later/revoke", b"{}"))
check("Submitted", answer(f"/api/tasks/{sent['id']}/retry", b""))
check("Purged", answer("/api/queues/celery/purge", b""))

# A client that nobody wrote by hand.
(folder / "document.json").write_text(json.dumps(document))
(folder / "settings.yml").write_text("post_hooks: []\npackage_name_override: made\ncontent_type_overrides: {application/x-ndjson: application/octet-stream}\n")
made = subprocess.run(
    [Path(sys.executable).parent / "openapi-python-client", "generate", "--fail-on-warning"]
    + ["--path", "document.json", "--config", "settings.yml", "--output-path", "made", "--meta", "none"],
    cwd=folder, capture_output=True, text=True,
)
assert made.returncode == 0, made.stdout + made.stderr
sys.path.insert(0, str(folder))
from made import Client
from made.api.tasks import send_task, show_task
from made.models import Request, State

client = Client(base_url=url)
run = send_task.sync("math.add", client=client, body=Request(args=[10, 3]), wait="30s")
assert run.state == State.SUCCESS, run
same = asyncio.run(show_task.asyncio(run.id, client=client))
missing = show_task.sync("nobody", client=client)

# While it stops; what runs keeps the door open.
answer("/api/tasks/hello.stand", b'{"id": "stands"}')
while answer("/api/tasks/stands?wait=0.01")["state"] != "STARTED":
    pass
os.kill(pid, signal.SIGTERM)
while True:
    try:
        answer("/readyz")
    except HTTPError as error:
        problem = json.load(error)
        break
check("Problem", problem)
assert (problem["status"], problem["part"]) == (503, "process"), problem
print(json.dumps({"sum": run.result, "same": same.result, "missing": missing.status, "paths": len(shapes)}))
