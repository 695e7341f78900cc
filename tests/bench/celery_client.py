"""A Celery client. `URL sample` writes one message into the queue `sample`; `URL latency N` prints seconds."""

import json
import sys
import time

from celery import Celery

url, what, *rest = sys.argv[1:]
app = Celery("client", broker=url, backend=url)

if what == "sample":
    app.send_task("math.add", args=[10, 3], queue="sample")
else:
    times = []
    for _ in range(int(rest[0])):
        began = time.perf_counter()
        assert app.send_task("math.add", args=[10, 3]).get(timeout=60) == 13
        times.append(time.perf_counter() - began)
    print(json.dumps(times))
