// Logs in, makes an API key, and runs a workflow with it. Needs nothing but Node.
interface Failure {
  error: { code: string; message: string; details: { field: string; message: string; code: string }[] }
  requestId: string
}

// An answer that is no success: go by its code, and show its message and details.
class Refused extends Error {
  code: string
  constructor(status: number, { error, requestId }: Failure) {
    super(`${status} ${error.code}: ${error.message} ${JSON.stringify(error.details)} (request ${requestId})`)
    this.code = error.code
  }
}

const api = `${process.env.TURBOCAT_URL}/api/v1`
const account = { email: process.env.TURBOCAT_EMAIL, password: process.env.TURBOCAT_PASSWORD }

async function call<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
  const answer = await fetch(api + path, {
    method,
    headers: { 'Content-Type': 'application/json', ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(60_000),
  })
  const text = await answer.text()
  if (!answer.ok) throw new Refused(answer.status, JSON.parse(text) as Failure)
  return (text ? JSON.parse(text).data : undefined) as T
}

type Session = { accessToken: string; refreshToken: string }

const session = await call<Session>('POST', '/auth/login', account).catch((refused: unknown) => {
  if (!(refused instanceof Refused) || refused.code !== 'UNAUTHORIZED') throw refused
  return call<Session>('POST', '/auth/register', { ...account, fullName: 'A Client' })
})
const login = { Authorization: `Bearer ${session.accessToken}` }

// A program has a key of its own, with the scopes that it needs. Its text is told this once.
const made = await call<{ id: string; key: string }>('POST', '/api-keys', { name: 'client.ts', scopes: ['agents:write', 'workflows:write', 'workflows:execute'] }, login)
const key = { 'X-API-Key': made.key }

const agent = await call<{ id: string }>('POST', '/agents', {
  name: 'sum', type: 'CODE', status: 'ACTIVE',
  config: { runtime: 'javascript', source: 'function handler({values}) { return {sum: values.reduce((a, b) => a + b, 0)} }' },
}, key)
const workflow = await call<{ id: string }>('POST', '/workflows', {
  name: 'sum', status: 'ACTIVE', outputs: { sum: '{{add.output.sum}}' },
  steps: [{ stepKey: 'add', stepType: 'AGENT', agentId: agent.id, inputs: { values: '{{inputs.values}}' } }],
}, key)

// An Idempotency-Key makes it safe to send the request again when no answer has come.
const execution = await call<{ outputs: unknown }>('POST', `/workflows/${workflow.id}/execute?wait=30s`, { inputs: { values: [1, 2, 3] } }, { ...key, 'Idempotency-Key': crypto.randomUUID() })
console.log(JSON.stringify(execution.outputs))

await call('DELETE', `/api-keys/${made.id}`, undefined, login)
await call('POST', '/auth/logout', { refreshToken: session.refreshToken })
