"""A Celery client that asks workers and tells them things; prints what came of it as JSON lines.

Called with the URL of Redis, the prefix of its keys, and what to do: the name of a function below and its arguments.
"""

import json
import sys

from celery import Celery
from celery.exceptions import TaskRevokedError

url, prefix, todo, *names = sys.argv[1:]
options = {"global_keyprefix": prefix}
app = Celery(
    "client",
    broker=url,
    backend=url,
    broker_transport_options=options,
    result_backend_transport_options=options,
)
# Only a broken program needs it: with as many answers as are wanted nobody waits.
PATIENCE = 60


def say(value):
    print(json.dumps(value))


def tell(method, destination, **arguments):
    """What those workers answer, by name."""
    answers = app.control.broadcast(
        method, arguments=arguments, destination=destination, reply=True, timeout=PATIENCE
    )
    return {name: answer for one in answers or [] for name, answer in one.items()}


def wait_for(workers):
    """What is called out before they listen is lost."""
    heard = set()
    while not set(workers) <= heard:
        for answer in app.control.ping(timeout=0.2):
            heard |= set(answer)


def ending(result):
    try:
        return {"value": result.get(timeout=PATIENCE), "state": result.state}
    except TaskRevokedError as error:
        return {"revoked": str(error), "state": result.state}


def wait_until_active(result, workers):
    while True:
        found = app.control.inspect(destination=workers, timeout=PATIENCE).query_task(result.id)
        for worker, tasks in (found or {}).items():
            if tasks.get(result.id, [None])[0] == "active":
                return worker


def ping():
    wait_for(names)
    say(tell("ping", names))


def once():
    say(tell("ping", names))


def asks():
    wait_for(names)
    first, second = names
    inspect = app.control.inspect(destination=names, timeout=PATIENCE)
    result = app.send_task("it.wait", args=["asked"], kwargs={"patience": 60})
    worker = wait_until_active(result, names)
    say({"ping": inspect.ping(), "one": tell("ping", [second])})
    say({"active": inspect.active()[worker], "safe": inspect.active(safe=True)[worker], "worker": worker})
    say({"query": inspect.query_task(result.id, "unknown")[worker][result.id]})
    say({"reserved": inspect.reserved(), "scheduled": inspect.scheduled(), "revoked": inspect.revoked()})
    say({"registered": inspect.registered(), "with": inspect.registered("max_retries")})
    say({"queues": inspect.active_queues()})
    say({"stats": inspect.stats()[worker], "clock": inspect.clock()})
    say({"unknown": tell("frobnicate", names), "shutdown": tell("shutdown", names)})
    result.revoke(terminate=True)
    say(ending(result))


def patterns():
    """Counts who answers: those who do not are waited for as long as the others took, and longer."""
    wait_for(names)
    asked = [("*@*", "glob", 2), (names[0], "glob", 1), ("umbel-[0-9]+@", "pcre", 2), ("demo", "pcre", 0)]
    for pattern, matcher, expected in asked:
        answers = app.control.broadcast(
            "ping", pattern=pattern, matcher=matcher, reply=True, timeout=PATIENCE if expected else 1, limit=expected
        )
        say({"pattern": pattern, "answered": sorted(name for answer in answers for name in answer)})


def revokes():
    wait_for(names)
    later = app.send_task("it.quick", countdown=3600)
    later.revoke()
    say(ending(later))

    several = [app.send_task("it.quick", countdown=3600) for _ in range(3)]
    said = tell("revoke", names, task_id=[result.id for result in several[:2]])
    say({"several": [ending(result) for result in several[:2]], "said": said, "third": several[2].state})
    app.control.revoke(several[2].id)

    running = app.send_task("it.wait", args=["never"], kwargs={"patience": 60})
    wait_until_active(running, names)
    app.control.revoke(running.id, terminate=True, signal="SIGKILL")
    say(ending(running))

    # Whoever hears it: the store knows where it runs.
    running = app.send_task("it.wait", args=["never"], kwargs={"patience": 60})
    worker = wait_until_active(running, names)
    other = [name for name in names if name != worker]
    said = tell("revoke", other, task_id=running.id, terminate=True, signal="SIGTERM")
    say({**ending(running), "said": said})

    # A revocation alone lets a running task run.
    running = app.send_task("it.wait", args=["gate"], kwargs={"patience": 60})
    wait_until_active(running, names)
    said = tell("revoke", names, task_id=running.id)
    app.send_task("it.open", args=["gate"]).get(timeout=PATIENCE)
    say({**ending(running), "said": said})

    done = app.send_task("it.quick")
    done.get(timeout=PATIENCE)
    done.revoke(terminate=True)
    say({**ending(done), "said": tell("terminate", names[:1], task_id=done.id, signal="TERM")})


def revoke():
    """Of a task that is sent later."""
    *workers, task_id = names
    wait_for(workers)
    say(tell("revoke", workers, task_id=task_id) if workers else app.control.revoke(task_id))


def revoked():
    say(tell("revoked", names))


def send():
    say(ending(app.send_task("it.quick", task_id=names[0])))


def hold():
    """Leaves a task running."""
    wait_for(names)
    result = app.send_task("it.wait", args=["never"], kwargs={"patience": 60}, task_id="held")
    wait_until_active(result, names)
    say("held")


def let_go():
    say(tell("revoke", names, task_id="held", terminate=True))
    say(ending(app.AsyncResult("held")))


globals()[todo]()
