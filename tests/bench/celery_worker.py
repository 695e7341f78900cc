"""The task that is measured, as a Python project would have it: `URL POOL CONCURRENCY`."""

import sys

from celery import Celery

url, pool, concurrency = sys.argv[1:]
app = Celery("bench", broker=url, backend=url)
# What makes it fast: many messages at once, and no talk beside the work.
app.conf.update(worker_prefetch_multiplier=64, worker_send_task_events=False)


@app.task(name="math.add")
def add(x, y):
    return x + y


app.worker_main(
    ["worker", f"--pool={pool}", f"--concurrency={concurrency}", "--loglevel=error", "--without-mingle"]
    + ["--without-gossip", "--without-heartbeat"]
)
