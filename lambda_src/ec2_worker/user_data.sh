#!/bin/bash
# What a worker's instance runs when it starts: the same on Amazon Linux 2023 and on the embedded AWS.
# launch.py puts the job and worker.py where the words between @ are, in base64: nothing of them is shell.
set -euo pipefail
umask 077

# The SDK asks an instance for its credentials once and waits a second, which a busy one may need longer for.
export AWS_METADATA_SERVICE_TIMEOUT=10 AWS_METADATA_SERVICE_NUM_ATTEMPTS=3

# Where /tmp is memory, as on Amazon Linux 2023, packages and data do not fit beside the work in 1 GB.
if [ "$(stat -f -c %T /tmp 2>/dev/null || true)" = tmpfs ]; then export TMPDIR=/var/tmp; fi
folder="$(mktemp -d)"
instance="" step="it was starting"
touch "$folder/last.log"

run() { # do the next step; its output goes to the console and is kept
  step="$1"
  "${@:2}" 2>&1 | tee "$folder/last.log"
}

metadata() { # ask the instance metadata service (version 2) for a path
  python3 - "$1" <<'PYTHON'
import os, sys, urllib.request
place = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/") + "/latest/"
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
def ask(path, method, headers):
    return direct.open(urllib.request.Request(place + path, method=method, headers=headers), timeout=10).read().decode()
token = ask("api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
print(ask(sys.argv[1], "GET", {"X-aws-ec2-metadata-token": token}))
PYTHON
}

report() { # say it; write WorkerFailed, unless the record is final or not this instance's (tried again: not yet)
  python3 - "$folder" "$instance" "$step" "$1" >"$folder/failed.json" <<'PYTHON'
import datetime, json, pathlib, sys
folder, instance, step, code = pathlib.Path(sys.argv[1]), *sys.argv[2:]
job = json.loads((folder / "job.json").read_text())
last = (folder / "last.log").read_text(errors="replace").strip().rpartition("\n")[2][-300:]
killed = ", as when memory runs out" if code == "137" else ""
reason = f"the instance's script failed while {step}: exit code {code}{killed}" + (f": {last}" if last else "")
print(reason, file=sys.stderr)  # on the console, should the record not take it
now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
entry = {"status": {"S": "WorkerFailed"}, "at": {"S": now}, "reason": {"S": reason}}
values = {":me": {"S": instance}, ":execution": {"S": job["execution"]}, ":now": {"S": now}, ":reason": {"S": reason},
          ":a": {"S": "WorkerStarting"}, ":b": {"S": "WorkerRunning"}, ":failed": {"S": "WorkerFailed"},
          ":entry": {"L": [{"M": entry}]}}
print(json.dumps({
    "TableName": job["table"], "Key": {"Unit": {"S": job["unit"]}}, "ExpressionAttributeValues": values,
    "ConditionExpression": "InstanceId = :me AND Execution = :execution AND JobStatus IN (:a, :b)",
    "UpdateExpression": "SET JobStatus = :failed, Reason = :reason, UpdatedAt = :now,"
                        " StatusHistory = list_append(StatusHistory, :entry)"}))
PYTHON
  for _ in 1 2 3; do
    if aws dynamodb update-item --cli-input-json "file://$folder/failed.json"; then return; fi
    sleep 2
  done
}

ended() {
  code=$?
  if [ "$code" -ne 0 ]; then report "$code" || true; fi
  rm -rf "$folder"
}
trap ended EXIT

base64 -d >"$folder/job.json" <<'JOB'
@JOB@
JOB
base64 -d <<'WORKER' | gzip -dc >"$folder/worker.py"
@WORKER@
WORKER

step="it was asking for the instance's id and region"
instance="$(metadata meta-data/instance-id)"
AWS_DEFAULT_REGION="$(metadata meta-data/placement/region)"
export AWS_DEFAULT_REGION

python=python3
if ! python3 -c 'import sys; from importlib.util import find_spec as f
sys.exit(not all(map(f, ("boto3", "joblib", "numpy", "sklearn"))))'; then
  python=python3.11
  run "it was installing Python" dnf install -y -q python3.11 python3.11-pip
  run "it was installing Python's packages" python3.11 -m pip install -q --root-user-action=ignore --no-cache-dir \
    --disable-pip-version-check --only-binary :all: \
    boto3==1.43.106 joblib==1.6.0 numpy==2.4.6 scikit-learn==1.9.1 scipy==1.17.1
fi
run "the worker was at work" "$python" -u "$folder/worker.py" "$folder/job.json" "$instance"
