"""A Celery client that links tasks, follows their states and reads their exceptions; prints JSON lines.

Arguments: the URL of Redis, and what to do. The worker in Python beside umbel is `follow_ups_worker.py`.
"""

import builtins
import json
import sys
import time

from celery import Celery
from celery.signals import after_task_publish

url, what = sys.argv[1], sys.argv[2]
app = Celery("client", broker=url, backend=url)
app.conf.task_routes = {"reports.*": {"queue": "python"}}


class Custom(Exception):
    pass


def say(**fact):
    print(json.dumps(fact), flush=True)


def until(fact, patience=60):
    """What `fact` gives as soon as that is something."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if (found := fact()) is not None:
            return found
    raise TimeoutError("it never came true")


def sent(name, *args, **options):
    return app.send_task(name, args=args, **options)


def link():
    callback = app.signature("it.mul", args=(10,), task_id="to-umbel")
    result = sent("it.add", 1, 2, link=callback)
    say(value=result.get(timeout=60), linked=app.AsyncResult("to-umbel").get(timeout=60))
    say(children=[child.id for child in result.children], graph=[value for _, value in result.collect()])

    python = app.signature("reports.total", args=(4,), kwargs={"factor": 2}, options={"queue": "python"})
    result = sent("it.add", 1, 2, link=python)
    result.get(timeout=60)
    say(python=result.children[0].get(timeout=60))

    last = app.signature("reports.total", args=(100,), options={"queue": "python", "task_id": "last"})
    middle = app.signature("it.mul", args=(10,), options={"link": [last], "task_id": "middle"})
    sent("it.add", 1, 2, link=middle)
    say(middle=app.AsyncResult("middle").get(timeout=60), last=app.AsyncResult("last").get(timeout=60))

    fixed = app.signature("it.add", args=(5, 6), immutable=True, options={"task_id": "fixed", "countdown": 0.1})
    moved = app.signature("it.mul", args=(2,), options={"task_id": "moved", "queue": "elsewhere", "priority": 6})
    sent("it.add", 1, 2, link=[fixed, moved])
    say(fixed=app.AsyncResult("fixed").get(timeout=60), moved=app.AsyncResult("moved").get(timeout=60))

    ignored = app.signature("it.mul", args=(3,), options={"task_id": "after-ignored"})
    result = sent("it.add", 1, 2, link=ignored, ignore_result=True)
    say(after_ignored=app.AsyncResult("after-ignored").get(timeout=60), ignored=app.AsyncResult(result.id).state)

    # From a Python worker to umbel.
    back = app.signature("it.mul", args=(2,), options={"task_id": "back", "queue": "celery"})
    sent("reports.number", 21, link=back)
    say(back=app.AsyncResult("back").get(timeout=60))

    stamped = app.signature("it.add", args=(1, 2))
    stamped.options["link"] = [app.signature("reports.stamps", options={"task_id": "stamped", "queue": "python"})]
    stamped.stamp(tenant="acme")
    stamped.apply_async()
    say(stamped=app.AsyncResult("stamped").get(timeout=60))


def link_error():
    ours = app.signature("it.note", options={"task_id": "ours"})
    python = app.signature("reports.note", options={"task_id": "theirs", "queue": "python"})
    fixed = app.signature("it.note", args=("fixed",), immutable=True, options={"task_id": "fixed"})
    failed = sent("it.fail", link_error=[ours, python, fixed], link=app.signature("it.note", task_id="never"))
    say(
        ours=app.AsyncResult("ours").get(timeout=60) == failed.id,
        theirs=app.AsyncResult("theirs").get(timeout=60) == failed.id,
        fixed=app.AsyncResult("fixed").get(timeout=60),
        never=app.AsyncResult("never").state,
        state=failed.state,
    )
    slow = sent("it.slow", link_error=app.signature("it.note", task_id="late"), time_limit=0.2)
    say(late=app.AsyncResult("late").get(timeout=60) == slow.id)

    chain = sent("it.add", 1, 2, link=(app.signature("it.add", args=(1,)) | app.signature("it.add", args=(1,))))
    say(chain=type(chain.get(timeout=60, propagate=False)).__name__)


def states():
    tracked = sent("it.tracked")
    say(tracked=until(lambda: tracked.info if tracked.state == "STARTED" else None))
    sent("it.open", "tracked").get(timeout=60)
    say(tracked_ends=tracked.get(timeout=60), state=tracked.state)

    reports = sent("it.reports")
    say(first=until(lambda: reports.info if reports.state == "PROGRESS" else None))
    sent("it.open", "first").get(timeout=60)
    say(noted=until(lambda: reports.info if (reports.info or {}).get("description") else None))
    sent("it.open", "second").get(timeout=60)
    say(reports=reports.get(timeout=60))

    retried = sent("it.again")
    waiting = until(lambda: retried.info if retried.state == "RETRY" else None)
    say(retry=type(waiting).__name__, message=str(waiting))

    late = sent("it.add", 1, 2, countdown=0.5, expires=0.1)
    try:
        late.get(timeout=60)
    except Exception as error:
        say(expired=type(error).__name__, reason=str(error), ends=late.state)

    # As if another worker had been faster with the same delivery.
    app.backend.store_result("done", 5, "SUCCESS")
    sent("it.fail", task_id="done", link_error=app.signature("it.note", task_id="failed"))
    say(failed=app.AsyncResult("failed").get(timeout=60), done=app.AsyncResult("done").get(timeout=60))


def exceptions():
    for args in [
        ["ValueError", "builtins", "kaboom"],
        ["KeyError", "builtins", "k"],
        ["Refused", "shop.errors", "no"],
        ["Custom", "__main__", ["a", 1, {"k": "v"}]],
    ]:
        failed = sent("it.throws", *args)
        error = failed.get(timeout=60, propagate=False)
        say(
            type=type(error).__name__,
            args=list(error.args),
            known=isinstance(error, getattr(builtins, args[0], Custom)),
            traceback="tasks/it.rhai:" in failed.traceback,
        )

    names = ["it.called", "it.zero", "it.index", "it.property", "it.deep", "it.large", "it.nothing"]
    for name in names:
        error = sent(name).get(timeout=60, propagate=False)
        say(task=name, type=type(error).__name__, module=type(error).__module__)

    soft = sent("it.slow", soft_time_limit=0.1).get(timeout=60, propagate=False)
    hard = sent("it.slow", time_limit=0.1).get(timeout=60, propagate=False)
    say(soft=type(soft).__name__, hard=type(hard).__name__, module=type(hard).__module__)
    say(wrong=type(sent("it.add", 1).get(timeout=60, propagate=False)).__name__)
    sent("it.fail", shadow="pretty.name").get(timeout=60, propagate=False)


{"link": link, "link_error": link_error, "states": states, "exceptions": exceptions}[what]()
