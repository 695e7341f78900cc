"""Sends `COUNT` tasks, of which some are tried again and some have a callback.

Prints `[id, id of the callback or null]` for each.
"""

import json
import sys

from celery import Celery

url, count = sys.argv[1], int(sys.argv[2])
app = Celery("client", broker=url, backend=url)

for n in range(count):
    task, callback = ("it.again" if n % 10 == 0 else "it.once"), None
    if n % 10 < 3:
        callback = app.signature("it.after", task_id=f"after-{n}")
    sent = app.send_task(task, args=[n], link=callback)
    print(json.dumps([sent.id, callback and callback.options["task_id"]]))
