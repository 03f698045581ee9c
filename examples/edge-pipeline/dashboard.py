"""Dashboard: shows the report of the cloud as a line for each machine."""

import widget


def page(_body, _headers):
    report = widget.call("analytics", "report", {})
    lines = [f"{name}: {machine['hours']} hours, at most {machine['max']} °C" for name, machine in sorted(report["machines"].items())]
    return {"lines": lines, "alarms": report["alarms"], "machines": report["machines"]}


widget.serve({"/page": page})
