"""A Celery worker as a Python project would have: it alone has the task `reports.total`."""

import sys

from celery import Celery

url = sys.argv[1]
app = Celery("reports", broker=url, backend=url)


@app.task(name="reports.total")
def total(*numbers, factor=1):
    return {"total": sum(numbers) * factor, "by": "python"}


@app.task(name="reports.broken")
def broken():
    raise ValueError("kaboom")


app.worker_main(["worker", "--pool=solo", "--queues=python", "--loglevel=warning", "--without-mingle"])
