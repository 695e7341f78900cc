"""A Celery client as a Django process would be: sends, and prints what came back as JSON lines."""

import json
import sys

from celery import Celery

url = sys.argv[1]
app = Celery("client", broker=url, backend=url)

sent = [app.send_task("math.add", args=[n, 1]) for n in range(20)]
print(json.dumps({"sums": [result.get(timeout=60) for result in sent]}))

named = app.send_task("math.add", args=[1], kwargs={"y": 2})
print(json.dumps({"named": named.get(timeout=60), "state": named.state}))

later = app.send_task("math.add", args=[3, 4], countdown=1)
print(json.dumps({"later": later.get(timeout=60)}))

urgent = app.send_task("math.add", args=[5, 6], priority=9)
print(json.dumps({"low_priority": urgent.get(timeout=60)}))

failed = app.send_task("it.fail")
try:
    failed.get(timeout=60)
except Exception as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))

unknown = app.send_task("it.nothing")
try:
    unknown.get(timeout=60)
except Exception as error:
    print(json.dumps({"unknown": type(error).__name__}))
