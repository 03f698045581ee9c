"""Finds values of the chart that do nothing: changes one after the other and says which change renders the same. `effects.py HELM`."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CHART = Path(__file__).resolve().parents[2] / "charts/kontrol"
# What has to be switched on before other values matter.
BASE = {
    "monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}, "rules": {"enabled": True}},
    "networkPolicy": {"widgetNamespaces": ["shop"]},
}
# Other values, where a plain one is refused or would not be seen.
SAMPLES = {
    "image.operator.digest": "sha256:" + "0" * 64,
    "image.sidecar.digest": "sha256:" + "0" * 64,
    "monitoring.serviceMonitor.interval": "7s",
    "monitoring.podMonitor.interval": "7s",
    "networkPolicy.apiServerPorts": [8443],
    "networkPolicy.metricsFrom": [{"podSelector": {}}],
    "image.pullSecrets": [{"name": "sample"}],
    "extraEnv": [{"name": "SAMPLE", "value": "1"}],
    "tolerations": [{"operator": "Exists"}],
    "topologySpreadConstraints": [{"topologyKey": "sample", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}],
    "affinity": {"nodeAffinity": {}},
    "resources": {"limits": {"memory": "1Gi"}},
}
# Read by Helm, not by a template.
UNREAD = {"global"}


def leaves(schema, path=""):
    for name, entry in schema["properties"].items():
        if "default" in entry:
            yield f"{path}{name}", entry
        else:
            yield from leaves(entry, f"{path}{name}.")


def other(path, entry):
    """A value that is not the default."""
    if path in SAMPLES:
        return SAMPLES[path]
    current = BASE
    for part in path.split("."):
        current = current.get(part) if isinstance(current, dict) else None
    match entry["type"]:
        case "boolean":
            return not (entry["default"] if current is None else current)
        case "integer":
            return entry["default"] + 1
        case "array":
            return ["sample"]
        case "object":
            return {"sample": "sample"}
    return next((value for value in entry.get("enum", []) if value != entry["default"]), "sample")


def merged(path, value):
    values = json.loads(json.dumps(BASE))
    inner = values
    *parents, last = path.split(".")
    for part in parents:
        inner = inner.setdefault(part, {})
    inner[last] = value
    return values


def rendered(helm, values):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        command = [helm, "template", "kontrol", str(CHART), "--namespace", "kontrol-system", "--values", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{values}: {done.stderr}")
    return re.sub(r"(?m)^# Source:.*$", "", done.stdout)


def main():
    helm = sys.argv[1]
    schema = json.loads((CHART / "values.schema.json").read_text())
    before = rendered(helm, BASE)
    dead = [
        path
        for path, entry in leaves(schema)
        if path not in UNREAD and rendered(helm, merged(path, other(path, entry))) == before
    ]
    for path in dead:
        print(f"the value {path} changes nothing")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
