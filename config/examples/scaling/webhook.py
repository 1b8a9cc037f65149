#!/usr/bin/env python3
"""Scales primaries behind Foreshadow's HTTP contract (docs/scaling.openapi.json).

    SCALER_TOKEN=... webhook.py --listen 127.0.0.1:9800 --first 2 --most 8 /var/lib/shop -- ./shop {port}

Primaries are processes, kept by the same code as in exec.py beside this file; replace that by calls to
your own platform.
"""

import errno
import hmac
import http.server
import json
import os
import re
import signal
import sys
import urllib.parse

from exec import Fleet, Refused, options

PATH = r"/v1/owners/(?P<owner>[^/]+)/services/(?P<service>[^/]+)/primaries"
OPERATIONS = {"GET": "primaries", "PUT": "scale"}
STATUS = {"quota": 403, "denied": 403, "disk_full": 507, "busy": 503, "unsupported": 501}
LARGEST = 65536


def handler(given, token):
    class Handler(http.server.BaseHTTPRequestHandler):
        def serve(self):
            said = self.headers.get("Authorization", "")
            if token and not hmac.compare_digest(said.encode(), f"Bearer {token}".encode()):
                return self.refuse(401, "denied", "a bearer token is needed")
            found = re.fullmatch(PATH, urllib.parse.urlsplit(self.path).path)
            if not found:
                return self.refuse(404, "failed", f"no {self.command} {self.path}")
            names = {k: urllib.parse.unquote(v) for k, v in found.groupdict().items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if 0 < length <= LARGEST else {}
            try:
                fleet = Fleet(given, names["owner"], names["service"])
                self.answer(200, getattr(fleet, OPERATIONS[self.command])(body))
            except Refused as refused:
                self.refuse(STATUS.get(refused.kind, 409), refused.kind, str(refused))
            except OSError as error:
                full = error.errno == errno.ENOSPC
                self.refuse(507 if full else 500, "disk_full" if full else "failed", str(error))

        def refuse(self, status, kind, message):
            self.answer(status, {"error": {"kind": kind, "message": message}})

        def answer(self, status, document):
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            try:
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                pass  # whoever asked has gone; it will ask again

        def log_message(self, *_):
            pass

        do_GET = do_PUT = serve

    return Handler


def main():
    arguments = options()
    arguments.add_argument("--listen", default="127.0.0.1:9800", help="HOST:PORT; port 0 takes any")
    given = arguments.parse_args()
    # Primaries that end are not waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    host, port = given.listen.rsplit(":", 1)
    served = handler(given, os.environ.get("SCALER_TOKEN"))
    server = http.server.ThreadingHTTPServer((host, int(port)), served)
    server.daemon_threads = True
    print("listening on http://%s:%d" % server.server_address[:2], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
