package runner

import "time"

// TokensKept is for how long what a model writes can be read live. The result of its step has all of it.
const TokensKept = 10 * time.Minute

// Token is a piece of what a model writes in an attempt, told as it is written. It stands Offset bytes behind the beginning of the
// call's text, and what was told before of that call from there on counts no more. Pieces may be missing.
type Token struct {
	ExecutionID string `json:"executionId" format:"uuid"`
	StepKey     string `json:"stepKey"`
	Iteration   int    `json:"iteration,omitempty"` // from 1: the item of a LOOP or branch of a PARALLEL; absent for the step itself
	Attempt     int    `json:"attempt"`             // of the step, from 1
	Call        int    `json:"call"`                // of a model in the attempt, as the list of its calls has it
	Offset      int    `json:"offset"`              // how many bytes of the call's text, in UTF-8, stand before
	Text        string `json:"text"`
}

// TokenBatch is the body of a message on subject.Tokens.
type TokenBatch struct {
	Tokens []Token `json:"tokens"`
}
