#!/usr/bin/env python3
"""A provider behind Foreshadow's HTTP contract (docs/provider.openapi.json).

    PROVIDER_TOKEN=... webhook.py 127.0.0.1:9700 /var/lib/shop --most 8 -- ./shop --port {port}

Instances are processes, kept by the same code as in exec.py beside this file; replace that by calls
to your own platform. A function's pre-warmed concurrency is put into $DATA/concurrency, where the
function looks for it.
"""

import argparse
import contextlib
import errno
import hashlib
import hmac
import http.server
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.parse

from exec import Place, Refused

ROUTES = [
    ("GET", r"/v1/owners/(?P<owner>[^/]+)/instances", "list"),
    ("PUT", r"/v1/owners/(?P<owner>[^/]+)/instances/(?P<instance>[^/]+)", "create"),
    ("DELETE", r"/v1/owners/(?P<owner>[^/]+)/instances/(?P<instance>[^/]+)", "destroy"),
    ("POST", r"/v1/owners/(?P<owner>[^/]+)/instances/(?P<instance>[^/]+)/freeze", "freeze"),
    ("POST", r"/v1/owners/(?P<owner>[^/]+)/instances/(?P<instance>[^/]+)/thaw", "thaw"),
    ("PUT", r"/v1/owners/(?P<owner>[^/]+)/instances/(?P<instance>[^/]+)/size", "resize"),
    ("PUT", r"/v1/owners/(?P<owner>[^/]+)/snapshots/(?P<snapshot>[^/]+)", "snapshot"),
    ("DELETE", r"/v1/owners/(?P<owner>[^/]+)/snapshots/(?P<snapshot>[^/]+)", "discard"),
]
STATUS = {"quota": 403, "denied": 403, "disk_full": 507, "busy": 503, "unsupported": 501}
LARGEST = 65536


class Functions(Place):
    """Adds a quota, the size of a function, and lists that wait for news."""

    most = None

    def create(self, ask):
        instances = [one["instance"] for one in super().list(ask)["instances"]]
        if self.most is not None and len({*instances, ask["instance"]}) > self.most:
            raise Refused("quota", f"{len(instances)} of {self.most} instances exist")
        return super().create(ask)

    def resize(self, ask):
        if "concurrency" not in ask:
            raise Refused("unsupported", "only the concurrency of a function can be set")
        data = self.path(ask["instance"], ".data")
        if not data.exists():
            raise Refused("failed", f"there is no instance {ask['instance']}")
        (data / "concurrency").write_text(str(ask["concurrency"]))

    def shown(self, record, made=True):
        shown = super().shown(record, made)
        # Elsewhere a process means nothing; its end is told by the list.
        shown.pop("pid", None)
        return shown

    def list(self, ask):
        end = time.monotonic() + int(ask.get("wait_ms", 0)) / 1000
        while True:
            answer = super().list(ask)
            version = hashlib.sha256(json.dumps(answer).encode()).hexdigest()[:16]
            if version != ask.get("known") or time.monotonic() >= end:
                return {**answer, "version": version}
            time.sleep(0.02)


def handler(base, command, token):
    creating = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def serve(self):
            url = urllib.parse.urlsplit(self.path)
            given = self.headers.get("Authorization", "")
            if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                return self.refuse(401, "denied", "a bearer token is needed")
            for method, pattern, operation in ROUTES:
                found = re.fullmatch(pattern, url.path)
                if found and method == self.command:
                    names = {k: urllib.parse.unquote(v) for k, v in found.groupdict().items()}
                    return self.carry_out(operation, {**self.said(url), **names})
            return self.refuse(404, "failed", f"no {self.command} {url.path}")

        def said(self, url):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if 0 < length <= LARGEST else {}
            query = dict(urllib.parse.parse_qsl(url.query))
            return {**body, **{k: int(v) if k.endswith("_ms") else v for k, v in query.items()}}

        def carry_out(self, operation, ask):
            place = Functions(base, ask["owner"], command)
            # One order at a time for an instance; lists wait for nobody. New ones are counted, so
            # they are made one after the other.
            try:
                with contextlib.ExitStack() as held:
                    if operation == "create":
                        held.enter_context(creating)
                    if "instance" in ask:
                        held.enter_context(place.order(ask["instance"]))
                    answer = getattr(place, operation)(ask)
                self.answer(204 if answer is None else 200, answer)
            except Refused as refused:
                self.refuse(STATUS.get(refused.kind, 409), refused.kind, str(refused))
            except OSError as error:
                full = error.errno == errno.ENOSPC
                kind = "disk_full" if full else "failed"
                self.refuse(507 if full else 500, kind, str(error))

        def refuse(self, status, kind, message):
            self.answer(status, {"error": {"kind": kind, "message": message}})

        def answer(self, status, document):
            body = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            try:
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                pass  # whoever asked has gone; it will ask or list again

        def log_message(self, *_):
            pass

        do_GET = do_PUT = do_POST = do_DELETE = serve

    return Handler


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("listen", help="HOST:PORT; port 0 takes any")
    options.add_argument("directory", help="where instances are kept")
    options.add_argument("--most", type=int, help="how many instances may exist")
    options.add_argument("command", nargs="+", help="what an instance runs; {port} is its port")
    given = options.parse_args()
    Functions.most = given.most
    # Instances that end are not waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    host, port = given.listen.rsplit(":", 1)
    token = os.environ.get("PROVIDER_TOKEN")
    served = handler(given.directory, given.command, token)
    server = http.server.ThreadingHTTPServer((host, int(port)), served)
    server.daemon_threads = True
    print("listening on http://%s:%d" % server.server_address[:2], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
