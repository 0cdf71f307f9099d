"""Runs tasks over HTTP: python3 http_worker.py [COUNT]; without COUNT until Ctrl-C. Needs Python's own library only."""

import json
import os
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request

URL = os.environ.get("MILLRACE_HTTP_URL", "http://127.0.0.1:5556")
QUEUE = "reports-http"
LEASE_MS = 30_000
WAIT_MS = 30_000
PAUSE_S = 1


def build_report(payload, attempt):
    if payload["month"] == "2026-02" and attempt == 1:
        raise RuntimeError("the printer is out of paper")
    return {"report": payload["month"], "attempt": attempt}


HANDLERS = {"report.build": build_report}


def call(path, body=None):
    """Raises HTTPError for what the server refuses and OSError when it cannot be reached."""
    data = json.dumps(body or {}).encode()
    request = urllib.request.Request(URL + path, data, {"content-type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=WAIT_MS / 1000 + 10) as response:
        text = response.read()
        return json.loads(text) if text else None


class Heartbeat:
    """Keeps a lease for as long as its handler runs: should this process die, the task goes to another soon."""

    def __init__(self, lease):
        self.lease = lease
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def run(self):
        while not self.ended.wait(LEASE_MS / 3000):
            try:
                call(f"/v1/leases/{self.lease}/extend", {"leaseMs": LEASE_MS})
            except urllib.error.HTTPError:
                return  # The lease is over: completing it will say so.
            except OSError:
                pass  # Tried again until then.


def run(task):
    try:
        with Heartbeat(task["lease"]):
            result = HANDLERS[task["name"]](task["payload"], task["attempt"])
        ending, body = "complete", {"result": result}
    except Exception as error:
        described = {"name": type(error).__name__, "message": str(error), "stack": traceback.format_exc()}
        ending, body = "fail", {"error": described}
    settle(task["lease"], ending, body)
    print(f"{task['name']} {task['payload']['month']} attempt {task['attempt']}: {ending}", flush=True)


def settle(lease, ending, body):
    """The answer means that it is on disk. Until there is one it is said again."""
    while True:
        try:
            return call(f"/v1/leases/{lease}/{ending}", body)
        except urllib.error.HTTPError as error:
            if error.code == 409:
                # Another has the task, or this has been said already and only the answer was lost.
                return print(f"lease lost: {json.load(error)['detail']}", file=sys.stderr)
            if error.code < 500:
                raise
        except OSError:
            pass
        time.sleep(PAUSE_S)


def main():
    remaining = int(sys.argv[1]) if len(sys.argv) > 1 else None
    request = {"queues": [QUEUE], "waitMs": WAIT_MS, "leaseMs": LEASE_MS, "worker": f"python-{os.getpid()}"}
    while remaining != 0:
        try:
            leases = call("/v1/leases", request)["leases"]
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429:
                raise
            time.sleep(PAUSE_S)
            continue
        for task in leases:
            run(task)
            if remaining is not None:
                remaining -= 1


try:
    main()
except KeyboardInterrupt:
    pass
except urllib.error.HTTPError as error:
    sys.exit(f"{error.code}: {json.load(error)['detail']}")
