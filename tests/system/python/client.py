"""Makes a client of a running umbel from its document, and works with it: `client.py URL FOLDER`."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

url, folder = sys.argv[1], Path(sys.argv[2])
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
print(json.dumps({"sum": run.result, "same": same.result, "missing": missing.status, "paths": len(shapes)}))
