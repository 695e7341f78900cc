"""A Celery client as a Django process would be. Prints what came of each way to send, as a JSON object a line."""

import datetime
import json
import sys
import uuid

from celery import Celery, group
from celery.result import ResultSet

url = sys.argv[1]
app = Celery("client", broker=url, backend=url)
utc = datetime.timezone.utc


@app.task(name="math.add")
def add(x, y):
    raise AssertionError("this process only sends")


def say(**facts):
    print(json.dumps(facts), flush=True)


def error_of(result):
    try:
        result.get(timeout=60)
    except Exception as error:
        return {"type": type(error).__name__, "module": type(error).__module__, "args": list(error.args)}


sent = [app.send_task("math.add", args=[n, 1]) for n in range(20)]
say(sums=[result.get(timeout=60) for result in sent])
say(delayed=add.delay(20, 22).get(timeout=60), by_name=add.delay(x=1, y=2).get(timeout=60))
say(group=group(add.s(n, n) for n in range(5))().get(timeout=60))
say(set=ResultSet([add.delay(n, 2) for n in range(3)]).join(timeout=60))

done = add.apply_async((1, 1))
done.get(timeout=60)
say(done_state=done.state, ready=done.ready(), successful=done.successful(), has_failed=done.failed(), parent=done.parent)

began = datetime.datetime.now(utc)
later = add.apply_async((3, 4), countdown=1)
early = later.state
say(countdown=later.get(timeout=60), early=early, countdown_waited=datetime.datetime.now(utc) - began >= datetime.timedelta(seconds=1))
eta = datetime.datetime.now(utc) + datetime.timedelta(seconds=1)
say(eta=add.apply_async((5, 6), eta=eta).get(timeout=60), eta_waited=datetime.datetime.now(utc) >= eta)
korea = datetime.timezone(datetime.timedelta(hours=9))
say(elsewhere=add.apply_async((5, 7), eta=datetime.datetime.now(korea)).get(timeout=60))

expired = add.apply_async((1, 1), expires=datetime.datetime.now(utc) - datetime.timedelta(seconds=1))
say(expired=error_of(expired), expired_state=expired.state)
say(unexpired=add.apply_async((1, 1), expires=600).get(timeout=60))

say(priorities=[add.apply_async((n, 0), priority=n).get(timeout=60) for n in (0, 1, 3, 5, 6, 9, 255)])
say(queue=app.send_task("it.slow", args=[1], queue="io").get(timeout=60))
mine = f"order {uuid.uuid4()} 주문"
say(task_id=add.apply_async((1, 2), task_id=mine).get(timeout=60), id_kept=app.AsyncResult(mine).get(timeout=60))

ignored = add.apply_async((1, 1), ignore_result=True)
add.delay(1, 1).get(timeout=60)
say(ignored=ignored.state)

say(limited=error_of(app.send_task("it.endless", time_limit=0.2)))
say(softly=app.send_task("it.soft", soft_time_limit=0.2, time_limit=30).get(timeout=60))

failed = app.send_task("it.fail")
say(failed=error_of(failed), failed_state=failed.state, traceback="it.rhai:1" in failed.traceback)
say(quietly=str(failed.get(propagate=False, timeout=60)))
say(unknown=error_of(app.send_task("it.nothing")))
say(wrong=error_of(app.send_task("math.add", args=[1])))
retried = app.send_task("it.retried")
say(retried=retried.get(timeout=60), retried_state=retried.state)

say(compressed=add.apply_async((2, 3), compression="zlib").get(timeout=60))
say(stamped=app.send_task("math.add", args=[4, 5], stamped_headers=["tenant"], tenant="t1", shadow="sum").get(timeout=60))
say(unpickled=error_of(app.send_task("math.add", args=[1, 1], serializer="pickle")))
when = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=utc)
say(echo=app.send_task("it.echo", args=[{"text": "안녕 \U0001f331", "list": [1, 2.5, None, True], "deep": {"a": [{}]}}]).get(timeout=60))

waiting = app.send_task("it.waits", countdown=600)
waiting.revoke()
say(revoked=error_of(waiting), revoked_state=waiting.state)

forgotten = add.delay(1, 1)
forgotten.get(timeout=60)
forgotten.forget()
say(forgotten=app.AsyncResult(forgotten.id).state)
