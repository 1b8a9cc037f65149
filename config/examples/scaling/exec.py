#!/usr/bin/env python3
"""Scales primaries behind Foreshadow's command contract (docs/scaling.md): they are processes.

    scaling:
      by:
        exec:
          command: [config/examples/scaling/exec.py, --first, "2", /var/lib/shop, --, ./shop, "{port}"]
      max: 8

Foreshadow adds the operation as the last argument, `primaries` or `scale`, and writes one JSON document
to standard input. Replace `start`, `is_ready` and `end` by calls to your own platform, such as the size
of an instance group; the rest is the contract.
"""

import argparse
import contextlib
import errno
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

# Set for every primary, so that a process is known again by more than its number.
KEY = "EXAMPLE_PRIMARY"


class Refused(Exception):
    """Told to Foreshadow: kind is quota, denied, disk_full, busy, unsupported or failed."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Fleet:
    """The primaries of one service: how many are wanted, and a record of each process."""

    def __init__(self, given, owner, service):
        for name in (owner, service):
            if not name or "/" in name or name.startswith("."):
                raise Refused("failed", f"{name!r} is no name")
        self.given = given
        self.dir = pathlib.Path(given.directory) / owner
        self.dir.mkdir(parents=True, exist_ok=True)
        self.path = self.dir / f"{service}.json"
        self.name = f"{owner}/{service}"

    @contextlib.contextmanager
    def held(self):
        """One at a time looks or changes, whichever process or thread does."""
        with open(self.path.with_suffix(".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self.state = json.loads(self.path.read_text())
            except FileNotFoundError:
                self.state = {"wanted": self.given.first, "next": 1, "members": []}
            yield
            fresh = self.path.with_suffix(".new")
            fresh.write_text(json.dumps(self.state))
            fresh.rename(self.path)

    # The operations. Each may be asked again with the same words, and then changes nothing more.

    def primaries(self, _):
        with self.held():
            self.tend()
            return self.shown()

    def scale(self, ask):
        with self.held():
            wanted = ask["primaries"]
            if self.given.most is not None and wanted > self.given.most:
                raise Refused("quota", f"{wanted} are asked for and {self.given.most} are allowed")
            self.state["wanted"] = wanted
            self.tend()
            return self.shown()

    def shown(self):
        members = self.state["members"]
        leaving = [one["address"] for one in members if "ends" in one]
        serving = [one for one in members if "ends" not in one]
        return {
            "wanted": self.state["wanted"],
            "ready": [one["address"] for one in serving if self.is_ready(one)],
            "leaving": leaving,
        }

    def tend(self):
        """Brings what runs towards what is wanted. What is to end is named some time before."""
        now, state = time.time(), self.state
        state["members"] = [one for one in state["members"] if self.runs(one)]
        serving = [one for one in state["members"] if "ends" not in one]
        for _ in range(len(serving), state["wanted"]):
            state["members"].append(self.start())
        for one in serving[state["wanted"] :]:
            one["ends"] = now + self.given.notice
        for one in [one for one in state["members"] if one.get("ends", now + 1) <= now]:
            self.end(one)
            state["members"].remove(one)

    def start(self):
        number = self.state["next"]
        self.state["next"] += 1
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = dict(os.environ, PORT=str(port))
        environment[KEY] = f"{self.name}/{number}"
        # What carries this variable belongs to this command and is ended with it.
        environment.pop("FORESHADOW_COMMAND", None)
        process = subprocess.Popen(
            [word.replace("{port}", str(port)) for word in self.given.command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return {"number": number, "pid": process.pid, "address": f"127.0.0.1:{port}"}

    def runs(self, one):
        """Whether its process is still that one; of one that has just begun that is not seen yet."""
        try:
            environment = pathlib.Path(f"/proc/{one['pid']}/environ").read_bytes()
        except OSError:
            return False
        return not environment or f"{KEY}={self.name}/{one['number']}".encode() in environment.split(b"\0")

    def is_ready(self, one):
        host, port = one["address"].rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return True
        except OSError:
            return False

    def end(self, one):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one["pid"], signal.SIGTERM)


def options():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("directory", help="where primaries are recorded")
    options.add_argument("--first", type=int, default=1, help="how many there are at first")
    options.add_argument("--most", type=int, help="how many there may be")
    options.add_argument("--notice", type=float, default=2, help="seconds from being named to the end")
    options.add_argument("command", nargs="+", help="what a primary runs; {port} is its port")
    return options


def main():
    *arguments, operation = sys.argv[1:]
    given = options().parse_args(arguments)
    ask = json.load(sys.stdin)
    try:
        if operation not in ("primaries", "scale"):
            raise Refused("unsupported", f"{operation} is not done here")
        print(json.dumps(getattr(Fleet(given, ask["owner"], ask["service"]), operation)(ask)))
    except Refused as refused:
        print(json.dumps({"error": {"kind": refused.kind, "message": str(refused)}}))
        sys.exit(1)
    except OSError as error:
        kinds = {errno.ENOSPC: "disk_full", errno.EACCES: "denied", errno.EPERM: "denied"}
        print(json.dumps({"error": {"kind": kinds.get(error.errno, "failed"), "message": str(error)}}))
        sys.exit(1)


if __name__ == "__main__":
    main()
