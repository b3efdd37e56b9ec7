"""Logs in, makes an API key, and runs a workflow with it."""
import json
import os
import urllib.error
import urllib.request
import uuid

API = os.environ["TURBOCAT_URL"] + "/api/v1"
ACCOUNT = {"email": os.environ["TURBOCAT_EMAIL"], "password": os.environ["TURBOCAT_PASSWORD"]}


class Refused(Exception):
    """An answer that is no success: go by its code, and show its message and details."""

    def __init__(self, status, error, request_id):
        super().__init__(f"{status} {error['code']}: {error['message']} {error['details']} (request {request_id})")
        self.code = error["code"]


def call(method, path, body=None, **headers):
    """Gives the data of the answer; None when it has none."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Type": "application/json"}
    request = urllib.request.Request(API + path, method=method, headers=headers, data=None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
            return json.loads(text)["data"] if text else None
    except urllib.error.HTTPError as failure:
        told = json.loads(failure.read())
        raise Refused(failure.code, told["error"], told["requestId"]) from None


try:
    session = call("POST", "/auth/login", ACCOUNT)
except Refused as refused:
    if refused.code != "UNAUTHORIZED":
        raise
    session = call("POST", "/auth/register", ACCOUNT | {"fullName": "A Client"})
login = {"Authorization": "Bearer " + session["accessToken"]}

# A program has a key of its own, with the scopes that it needs. Its text is told this once.
made = call("POST", "/api-keys", {"name": "client.py", "scopes": ["agents:write", "workflows:write", "workflows:execute"]}, **login)
key = {"X_API_Key": made["key"]}

agent = call("POST", "/agents", {
    "name": "sum", "type": "CODE", "status": "ACTIVE",
    "config": {"runtime": "javascript", "source": "function handler({values}) { return {sum: values.reduce((a, b) => a + b, 0)} }"},
}, **key)
workflow = call("POST", "/workflows", {
    "name": "sum", "status": "ACTIVE", "outputs": {"sum": "{{add.output.sum}}"},
    "steps": [{"stepKey": "add", "stepType": "AGENT", "agentId": agent["id"], "inputs": {"values": "{{inputs.values}}"}}],
}, **key)

# An Idempotency-Key makes it safe to send the request again when no answer has come.
execution = call("POST", f"/workflows/{workflow['id']}/execute?wait=30s", {"inputs": {"values": [1, 2, 3]}}, Idempotency_Key=str(uuid.uuid4()), **key)
print(json.dumps(execution["outputs"], separators=(",", ":")))

call("DELETE", "/api-keys/" + made["id"], **login)
call("POST", "/auth/logout", {"refreshToken": session["refreshToken"]})
