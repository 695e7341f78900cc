"""Reads metrics as Prometheus does: `metrics.py URL`. Prints each number under its name and labels."""

import json
import sys
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

answer = urlopen(f"{sys.argv[1]}/metrics")
families = list(text_string_to_metric_families(answer.read().decode()))
names = [family.name for family in families]
assert len(names) == len(set(names)), "a family is told twice"
for family in families:
    assert family.name.startswith("umbel_"), family.name
    assert family.documentation and family.type != "unknown", family
numbers = {
    " ".join([sample.name] + [f"{name}={value}" for name, value in sorted(sample.labels.items())]): sample.value
    for family in families
    for sample in family.samples
}
print(json.dumps({"type": answer.headers["content-type"], "numbers": numbers}))
