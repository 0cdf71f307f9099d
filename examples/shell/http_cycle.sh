#!/bin/sh
# The life of two tasks over HTTP: sh http_cycle.sh. One is completed, one fails for good. Needs curl.
set -eu
url="${MILLRACE_HTTP_URL:-http://127.0.0.1:5556}"
queue="cycle-$$"

# Fails, and shows the problem, when the server refuses.
post() {
  curl --silent --show-error --fail-with-body --header 'content-type: application/json' --data "$2" "$url$1"
}

# The text of one member of an answer whose texts hold no quotes. Fails when there is none.
member() {
  sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p" | grep .
}

lease() {
  post /v1/leases "{\"queues\": [\"$queue\"], \"waitMs\": 30000}" | member lease
}

good=$(post /v1/tasks "{\"queue\": \"$queue\", \"name\": \"greet\", \"payload\": \"Ada\"}" | member id)
bad=$(post /v1/tasks "{\"queue\": \"$queue\", \"name\": \"greet\", \"payload\": null}" | member id)

lease=$(lease)
post "/v1/leases/$lease/complete" '{"result": "Hello, Ada"}'

lease=$(lease)
post "/v1/leases/$lease/fail" '{"error": {"message": "nobody to greet"}, "final": true}'

for id in "$good" "$bad"; do
  curl --silent --show-error --fail-with-body "$url/v1/tasks/$id/result?waitMs=30000"
  echo
done
