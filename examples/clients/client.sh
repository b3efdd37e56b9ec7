#!/bin/sh
# Logs in, makes an API key, and runs a workflow with it. Needs curl.
set -eu
API="$TURBOCAT_URL/api/v1"
JSON='Content-Type: application/json'
field() { grep -o "\"$1\":\"[^\"]*\"" | head -1 | cut -d '"' -f 4; }

# An answer that is no success ends the script; its body says why.
call() {
  answer=$(curl -sS -w '\n%{http_code}' "$@")
  status=${answer##*
}
  body=${answer%
*}
  [ "$status" -lt 400 ] || { echo "$body" >&2; exit 1; }
  printf '%s\n' "$body"
}

credentials="{\"email\":\"$TURBOCAT_EMAIL\",\"password\":\"$TURBOCAT_PASSWORD\"}"
session=$(curl -sS "$API/auth/login" -H "$JSON" -d "$credentials")
case $session in
  *'"accessToken"'*) ;;
  *) session=$(call "$API/auth/register" -H "$JSON" -d "{\"email\":\"$TURBOCAT_EMAIL\",\"password\":\"$TURBOCAT_PASSWORD\",\"fullName\":\"A Client\"}") ;;
esac
token=$(printf '%s' "$session" | field accessToken)

# A program has a key of its own, with the scopes that it needs. Its text is told this once.
made=$(call "$API/api-keys" -H "Authorization: Bearer $token" -H "$JSON" \
  -d '{"name":"client.sh","scopes":["agents:write","workflows:write","workflows:execute"]}')
key=$(printf '%s' "$made" | field key)
keyId=$(printf '%s' "$made" | field id)

agent=$(call "$API/agents" -H "X-API-Key: $key" -H "$JSON" -d '{"name":"sum","type":"CODE","status":"ACTIVE",
  "config":{"runtime":"javascript","source":"function handler({values}) { return {sum: values.reduce((a, b) => a + b, 0)} }"}}' | field id)
workflow=$(call "$API/workflows" -H "X-API-Key: $key" -H "$JSON" -d '{"name":"sum","status":"ACTIVE","outputs":{"sum":"{{add.output.sum}}"},
  "steps":[{"stepKey":"add","stepType":"AGENT","agentId":"'"$agent"'","inputs":{"values":"{{inputs.values}}"}}]}' | field id)

# An Idempotency-Key makes it safe to send the request again when no answer has come.
call "$API/workflows/$workflow/execute?wait=30s" -H "X-API-Key: $key" -H "$JSON" -H "Idempotency-Key: client-sh-$$" \
  -d '{"inputs":{"values":[1,2,3]}}' | grep -o '"outputs":{[^}]*}' | cut -d : -f 2-

call -X DELETE "$API/api-keys/$keyId" -H "Authorization: Bearer $token" >/dev/null
call "$API/auth/logout" -H "$JSON" -d "{\"refreshToken\":\"$(printf '%s' "$session" | field refreshToken)\"}" >/dev/null
