"""Sends 5,000 tasks to a queue that workers of two kinds share, and checks that each ran once and is answered right."""

import json
import sys
from collections import Counter

from celery import Celery
from redis import Redis

url = sys.argv[1]
app = Celery("client", broker=url, backend=url)
kept = Redis.from_url(url)

sent = [app.send_task("both.square", args=[n]) for n in range(5_000)]
answers = [result.get(timeout=120) for result in sent]
runs = kept.mget([f"umbel:kv:tasks:run {result.id}" for result in sent])
print(
    json.dumps(
        {
            "right": sum(answer[0] == n * n for n, answer in enumerate(answers)),
            "once": sum(run == b"1" for run in runs),
            "by": Counter(answer[1] for answer in answers),
        }
    )
)
