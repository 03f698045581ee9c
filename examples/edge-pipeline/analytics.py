"""Cloud analytics: keeps what the edge sends, and reports it."""

import threading

import widget

lock = threading.Lock()
summaries = {}
alarms = {}


def summary(body, headers):
    with lock:
        summaries[headers["ce-id"]] = body


def alarm(body, headers):
    with lock:
        alarms[headers["ce-id"]] = body


def report(_body, _headers):
    with lock:
        machines = {}
        for one in summaries.values():
            machine = machines.setdefault(one["machine"], {"hours": 0, "max": one["max"]})
            machine["hours"] += 1
            machine["max"] = max(machine["max"], one["max"])
        return {"machines": machines, "alarms": len(alarms)}


widget.serve({"/summaries": summary, "/alarms": alarm, "/report": report})
