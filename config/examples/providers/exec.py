#!/usr/bin/env python3
"""A provider behind Foreshadow's command contract (docs/providers.md): instances are processes.

    provider:
      exec:
        command: [config/examples/providers/exec.py, /var/lib/shop, --, ./shop, --port, "{port}"]
        can: [freeze, snapshot]

Foreshadow adds the operation as the last argument and writes one JSON document to standard input.
What an instance should keep it writes below the directory in $DATA; that is what a snapshot saves.
Replace `start`, `pids` and the signals by calls to your own platform; the rest is the contract.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

# Set for every instance, so that it is found again whatever happened to this program meanwhile.
KEY = "EXAMPLE_INSTANCE"
# How long it is remembered that an instance was destroyed: longer than an order can be under way.
REMEMBERED_S = 24 * 3600


class Refused(Exception):
    """Told to Foreshadow: kind is quota, denied, disk_full, busy, unsupported or failed."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Place:
    """Everything of one Foreshadow: a record, a lock and a data directory per instance."""

    def __init__(self, base, owner, command):
        self.dir = pathlib.Path(base) / owner
        self.dir.mkdir(parents=True, exist_ok=True)
        self.owner, self.command = owner, command

    def path(self, name, suffix):
        if not name or "/" in name or name.startswith("."):
            raise Refused("failed", f"{name!r} is no name")
        return self.dir / (name + suffix)

    def record(self, instance):
        try:
            return json.loads(self.path(instance, ".json").read_text())
        except FileNotFoundError:
            return None  # perhaps since a moment ago

    @contextlib.contextmanager
    def order(self, instance):
        """One order at a time for an instance, whichever process or thread carries it out."""
        with open(self.path(instance, ".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def ordered(self, instance):
        """Whether an order for it is under way."""
        try:
            with open(self.path(instance, ".lock")) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def write(self, record):
        path = self.path(record["instance"], ".json")
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(record))
        fresh.rename(path)

    def pids(self, instance):
        """Processes of an instance, found by the environment they were started with."""
        wanted = f"{KEY}={self.owner}/{instance}".encode()
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    pass  # it has ended, or belongs to somebody else
        return found

    def signal(self, instance, number):
        """Sends to every process of an instance, by descriptor: a pid may be used again."""
        for pid in self.pids(instance):
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                if pid in self.pids(instance):
                    signal.pidfd_send_signal(handle, number)
            except ProcessLookupError:
                pass
            finally:
                os.close(handle)

    # The operations. Each may be asked again with the same words, and then changes nothing more.

    def create(self, ask):
        instance = ask["instance"]
        # A destroyed instance stays destroyed, also when an older order to make it comes late.
        if self.path(instance, ".gone").exists():
            raise Refused("failed", f"{instance} was destroyed")
        record = self.record(instance)
        if record and self.pids(instance):
            return self.shown(record)
        data = self.path(instance, ".data")
        if not data.exists():
            begin = ask.get("snapshot")
            if begin:
                if not self.path(begin, ".snapshot").exists():
                    raise Refused("failed", f"there is no snapshot {begin}")
                shutil.copytree(self.path(begin, ".snapshot"), data)
            else:
                data.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        record = {
            "instance": instance,
            "service": ask["service"],
            "address": f"127.0.0.1:{port}",
            "state": "running",
        }
        if "concurrency" in ask:
            (data / "concurrency").write_text(str(ask["concurrency"]))
        # Recorded before it is started: a record without a process is one that has ended, a
        # process without a record would be lost.
        self.write(record)
        self.start(instance, port, data)
        return self.shown(record)

    def start(self, instance, port, data):
        environment = dict(os.environ, PORT=str(port), DATA=str(data), INSTANCE=instance)
        environment[KEY] = f"{self.owner}/{instance}"
        # What carries this variable belongs to this command and is ended with it.
        environment.pop("FORESHADOW_COMMAND", None)
        with open(self.path(instance, ".log"), "ab") as log:
            process = subprocess.Popen(
                [word.replace("{port}", str(port)) for word in self.command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Its environment can be seen a moment after its program has begun, not before.
        while process.poll() is None and process.pid not in self.pids(instance):
            time.sleep(0.001)

    def shown(self, record, made=True):
        """An instance in an answer; one that may not be made yet has not ended for that."""
        pids = self.pids(record["instance"])
        state = record["state"] if pids else "ended" if made else "starting"
        log = self.path(record["instance"], ".log")
        lines = log.read_text(errors="replace").splitlines()[-10:] if log.exists() else []
        # The first process is the one that was started; Foreshadow sees it end at once.
        gone = {"detail": "its process is gone"} if made else {}
        first = {"pid": min(pids)} if pids else gone
        return {**record, "state": state, "log": lines, **first}

    def list(self, _):
        instances = []
        for path in sorted(self.dir.glob("*.json")):
            # Asked before the record is read and its processes are: what is under way then is seen.
            making = self.ordered(path.stem) and not self.path(path.stem, ".gone").exists()
            record = self.record(path.stem)
            if record:
                instances.append(self.shown(record, made=not making))
        return {"instances": instances}

    def freeze(self, ask):
        self.set_state(ask["instance"], "frozen", signal.SIGSTOP)

    def thaw(self, ask):
        self.set_state(ask["instance"], "running", signal.SIGCONT)

    def set_state(self, instance, state, number):
        record = self.record(instance)
        if not record:
            raise Refused("failed", f"there is no instance {instance}")
        self.signal(instance, number)
        self.write({**record, "state": state})

    def snapshot(self, ask):
        to = self.path(ask["snapshot"], ".snapshot")
        fresh = self.path(ask["snapshot"], ".part")
        if not to.exists():
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(self.path(ask["instance"], ".data"), fresh)
            fresh.rename(to)

    def discard(self, ask):
        shutil.rmtree(self.path(ask["snapshot"], ".snapshot"), ignore_errors=True)

    def destroy(self, ask):
        instance = ask["instance"]
        self.path(instance, ".gone").touch()
        self.signal(instance, signal.SIGCONT)
        self.signal(instance, signal.SIGTERM)
        end = time.monotonic() + ask.get("grace_ms", 0) / 1000
        while self.pids(instance) and time.monotonic() < end:
            time.sleep(0.01)
        while self.pids(instance):
            self.signal(instance, signal.SIGKILL)
            time.sleep(0.01)
        shutil.rmtree(self.path(instance, ".data"), ignore_errors=True)
        self.path(instance, ".log").unlink(missing_ok=True)
        self.path(instance, ".json").unlink(missing_ok=True)
        self.forget()

    def forget(self):
        """Removes what only remembers instances that were destroyed long ago."""
        for gone in self.dir.glob("*.gone"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - gone.stat().st_mtime > REMEMBERED_S:
                    gone.with_suffix(".lock").unlink(missing_ok=True)
                    gone.unlink()


def main():
    *arguments, operation = sys.argv[1:]
    base, dashes, *command = arguments
    if dashes != "--" or not command:
        sys.exit("usage: exec.py DIRECTORY -- PROGRAM [ARGUMENT]... OPERATION")
    ask = json.load(sys.stdin)
    place = Place(base, ask["owner"], command)
    operations = ("create", "list", "freeze", "thaw", "snapshot", "discard", "destroy")
    try:
        if operation not in operations:
            raise Refused("unsupported", f"{operation} is not done here")
        # Lists wait for nobody.
        with place.order(ask["instance"]) if "instance" in ask else contextlib.nullcontext():
            answer = getattr(place, operation)(ask)
    except Refused as refused:
        print(json.dumps({"error": {"kind": refused.kind, "message": str(refused)}}))
        sys.exit(1)
    except OSError as error:
        kinds = {errno.ENOSPC: "disk_full", errno.EACCES: "denied", errno.EPERM: "denied"}
        print(json.dumps({"error": {"kind": kinds.get(error.errno, "failed"), "message": str(error)}}))
        sys.exit(1)
    if answer is not None:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
