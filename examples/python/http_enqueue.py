"""Enqueues tasks over HTTP and prints what became of them: python3 http_enqueue.py [COUNT]. Needs Python's own library only."""

import json
import os
import sys
import urllib.error
import urllib.request

URL = os.environ.get("MILLRACE_HTTP_URL", "http://127.0.0.1:5556")
QUEUE = "reports-http"
WAIT_MS = 30_000


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=WAIT_MS / 1000 + 10) as response:
        return json.load(response)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    # All or nothing; the answer comes when they are on disk.
    answer = call(
        "POST",
        "/v1/tasks",
        [
            {
                "queue": QUEUE,
                "name": "report.build",
                "payload": {"month": f"2026-{number % 12 + 1:02}"},
                "maxAttempts": 2,
                "backoff": {"delayMs": 10},
            }
            for number in range(count)
        ],
    )
    for task in answer["tasks"]:
        end = call("GET", f"/v1/tasks/{task['id']}/result?waitMs={WAIT_MS}")
        print(end["state"], json.dumps(end.get("result", end.get("error", {}).get("message"))))


try:
    main()
except urllib.error.HTTPError as error:
    # Every error is a problem: RFC 9457.
    sys.exit(f"{error.code}: {json.load(error)['detail']}")
