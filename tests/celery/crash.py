"""Sends 10,000 sums as a Django process would and reads all results; tells when the first are there."""

import json
import sys

from celery import Celery

url = sys.argv[1]
app = Celery("client", broker=url, backend=url)
# A client that is told to tries again while Redis is away.
app.conf.update(result_backend_always_retry=True, result_backend_max_retries=1_000)

sent = [app.send_task("slow.add", args=[n, 1]) for n in range(10_000)]
print(json.dumps({"sent": len(sent)}), flush=True)

# Asked for one by one: a subscription that is cut off hears nothing of what was called out meanwhile.
right = 0
for n, result in enumerate(sent):
    while True:
        try:
            meta = app.backend.get_task_meta(result.id, cache=False)
        except Exception:
            continue
        if meta["status"] in ("SUCCESS", "FAILURE", "REVOKED"):
            break
    right += meta["status"] == "SUCCESS" and meta["result"] == n + 1
    if n == 500:
        print(json.dumps({"under_way": True}), flush=True)
print(json.dumps({"right": right}), flush=True)
