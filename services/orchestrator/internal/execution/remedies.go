package execution

import "turbocat.io/contracts/runner"

// remedy tells what to do about a step's error; "" when only its message can.
func remedy(code string) string {
	const andRetry = ", and run the workflow again; a retry runs the definition as it was"
	switch code {
	case runner.CodeError, runner.CodeDataError:
		return "correct the agent or what it is given" + andRetry
	case runner.CodeSyntax, runner.CodeInvalidConfig:
		return "correct the agent's config" + andRetry
	case runner.CodeStepTimeout:
		return "retry it, or give the step more timeoutMs"
	case runner.CodeMemoryLimit:
		return "give the agent more memoryMb, or less to work on" + andRetry
	case runner.CodeOutputLimit:
		return "let the agents return less" + andRetry
	case runner.CodeInputLimit:
		return "pass less to the step" + andRetry
	case runner.CodeHTTPStatus, runner.CodeHTTPError:
		return "see what the server says, and retry it once that is right; onError RETRY does so by itself"
	case runner.CodeAddress:
		return "call a public address, or have the operator allow this one; then retry it"
	case runner.CodeInvalidInput:
		return "correct the inputs; rerun takes others"
	case runner.CodeInvalidOutput:
		return "correct the agent or its outputSchema" + andRetry
	case runner.CodeNoSandbox:
		return "run a runner on a host that can jail CODE, then retry it"
	case runner.CodeRunnerLost:
		return "see why runners die, such as of too little memory, then retry it"
	case runner.CodeNoSecret:
		return "make the secrets, then retry it"
	case runner.CodeForeignSecret:
		return "duplicate what belongs to somebody else, make the secrets your own, and run that"
	case runner.CodeTemplate:
		return "correct the template, or turn strictTemplates off" + andRetry
	case runner.CodeExpression:
		return "correct the expression" + andRetry
	case runner.CodeLoopLimit:
		return "raise maxIterations, or loop over less" + andRetry
	case runner.CodeRejected:
		return "retry it to ask again, or rerun it from an earlier step"
	case runner.CodeChildFailed, runner.CodeChildTimeout, runner.CodeChildStopped:
		return "see why the other execution ended so, then retry this one"
	case runner.CodeNotRecorded:
		return "retry the execution that is replayed, and replay that; or run the workflow again"
	case runner.CodeDepth:
		return "let the workflow not run itself without end" + andRetry
	case runner.CodeConcurrency:
		return "retry it when the others have ended, raise max in the workflow's concurrency, or let onLimit be QUEUE"
	case runner.CodeWorkflowTime:
		return "give the workflow more timeoutMs, or retry it"
	case runner.CodeUnsupported:
		return "run a version that can run this agent, then retry it"
	case runner.CodeEngineFault, runner.CodeInternal:
		return "retry it; report it if it happens again"
	}
	return ""
}
