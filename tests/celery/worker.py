"""A Celery worker as a Python project would have it: `URL QUEUE`."""

import sys

from celery import Celery
from redis import Redis

url, queue = sys.argv[1:]
app = Celery("reports", broker=url, backend=url)
counts = Redis.from_url(url)


@app.task(name="reports.total")
def total(*numbers, factor=1):
    return {"total": sum(numbers) * factor, "by": "python"}


@app.task(name="reports.broken")
def broken():
    raise ValueError("kaboom")


@app.task(name="both.square", bind=True)
def square(self, n):
    """Umbel has it too."""
    counts.incr(f"umbel:kv:tasks:run {self.request.id}")
    return [n * n, "python"]


app.worker_main(["worker", "--pool=solo", f"--queues={queue}", "--loglevel=warning", "--without-mingle"])
