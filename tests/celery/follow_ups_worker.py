"""A worker in Python beside umbel, to which umbel's tasks are linked and which links back."""

import sys
import time

from celery import Celery

url = sys.argv[1]
app = Celery("reports", broker=url, backend=url)


@app.task(name="reports.total")
def total(*numbers, factor=1):
    return sum(numbers) * factor


@app.task(name="reports.number")
def number(n):
    return n


@app.task(name="reports.note")
def note(failed):
    return failed


@app.task(name="reports.stamps", bind=True)
def stamps(self, _sum):
    return {"headers": self.request.stamped_headers, "stamps": self.request.stamps}


@app.task(name="reports.long", bind=True)
def long(self):
    self.update_state(state="PROGRESS", meta={"current": 1, "total": 4, "description": "reading"})
    while not app.backend.client.exists("go"):
        time.sleep(0.01)
    return "done"


app.worker_main(["worker", "--pool=solo", "--queues=python", "--loglevel=warning", "--without-mingle"])
