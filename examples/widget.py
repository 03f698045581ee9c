"""What these widgets share: a server for their sidecar to call, and requests to its door. Plain HTTP, no library."""

import http.client
import http.server
import json
import os
import threading
import urllib.parse

_door = urllib.parse.urlsplit(os.environ["KONTROL_SIDECAR_HTTP"])
_local = threading.local()


class Refused(Exception):
    """The sidecar answered with a problem (RFC 9457)."""


def _request(method, path, body, headers, timeout=30):
    """One request on this thread's connection; a connection that the sidecar has closed is opened again, once."""
    for fresh in (False, True):
        connection = getattr(_local, "connection", None)
        if fresh or connection is None:
            connection = _local.connection = http.client.HTTPConnection(_door.hostname, _door.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read()
            if response.status >= 300:
                raise Refused(f"{method} {path}: {response.status} {text.decode(errors='replace')}")
            return json.loads(text) if text else None
        except (http.client.RemoteDisconnected, ConnectionError, http.client.CannotSendRequest):
            connection.close()
            _local.connection = None
            if fresh:
                raise


def publish(topic, event_type, data, *, id, subject):
    """Stores one event; returns when it is durable. The same id again is the same event."""
    headers = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": id,
        "ce-source": "/",  # the sidecar says whose it is
        "ce-type": event_type,
        "ce-subject": subject,
    }
    return _request("POST", f"/v1/topics/{topic}/events", json.dumps(data), headers)


def call(target, method, data):
    """Calls a method of another widget and returns its reply."""
    path = f"/v1/call/{urllib.parse.quote(target, safe='')}/{method}"
    return _request("POST", path, json.dumps(data), {"content-type": "application/json"})


def serve(routes):
    """Answers `POST path` with `routes[path](body, headers)` and `GET /healthz` with 204, for ever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._answer(204 if self.path == "/healthz" else 404, None)

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            route = routes.get(self.path)
            if route is None:
                return self._answer(404, None)
            try:
                reply = route(json.loads(body), self.headers)
            except Exception as error:  # the sidecar hears of it and delivers again
                print(f"{self.path}: {error!r}", flush=True)
                return self._answer(500, {"error": repr(error)})
            self._answer(200 if reply is not None else 204, reply)

        def _answer(self, status, reply):
            body = b"" if reply is None else json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            if status != 204:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
