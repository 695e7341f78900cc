"""A Celery worker as it starts by default, with its greetings to others."""

import sys

from celery import Celery

url = sys.argv[1]
app = Celery("neighbour", broker=url, backend=url)

app.worker_main(
    ["worker", "--pool=solo", "--queues=python", "--loglevel=info", "--hostname=neighbour@here"]
)
