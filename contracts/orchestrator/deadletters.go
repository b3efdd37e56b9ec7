package orchestrator

import (
	"time"

	"turbocat.io/contracts/rpc"
)

// A dead letter is an input of executions that could not be applied. It is kept as it was sent, so that it can be sent once more when what
// was wrong is mended: a newer version may know its type, and a restored ledger its execution.

// Why an input is a dead letter.
const (
	DeadNoInput     = "NO_INPUT"     // its type is unknown, its data do not decode, or it names no execution
	DeadNoExecution = "NO_EXECUTION" // no execution of the partition has the id
)

// DeadReasons gives all of them.
func DeadReasons() []string { return []string{DeadNoInput, DeadNoExecution} }

// MaxDeadBody is how much of a body is shown, in bytes.
const MaxDeadBody = 64 << 10

// DeadLetter is an input that could not be applied.
type DeadLetter struct {
	ID         string              `json:"id" format:"uuid"`
	Reason     string              `json:"reason" enum:"NO_INPUT,NO_EXECUTION"`
	Message    string              `json:"message" doc:"what was wrong with it"`
	Partition  int                 `json:"partition"`
	Sequence   uint64              `json:"sequence" doc:"in the stream EXECUTION_INPUT, when it came"`
	Subject    string              `json:"subject" doc:"that it was sent to"`
	Headers    map[string][]string `json:"headers"`
	Size       int                 `json:"size" doc:"bytes of the body"`
	Body       string              `json:"body,omitempty" doc:"the first 64 KiB; left out of lists"`
	Replays    int                 `json:"replays" doc:"how often it was sent once more"`
	ReplayedAt *time.Time          `json:"replayedAt" doc:"for the last time"`
	CreatedAt  time.Time           `json:"createdAt"`
}

// DeadLetterCount is how many dead letters there are for a reason.
type DeadLetterCount struct {
	Reason   string     `json:"reason" enum:"NO_INPUT,NO_EXECUTION"`
	Count    int        `json:"count"`
	Replayed int        `json:"replayed" doc:"of them those that were sent once more"`
	Oldest   *time.Time `json:"oldest"`
	Newest   *time.Time `json:"newest"`
}

// DeadLettersRequest asks for a page of dead letters, newest first unless asked otherwise.
type DeadLettersRequest struct {
	rpc.Page
	Reason   string `json:"reason,omitempty"`
	Replayed string `json:"replayed,omitempty"` // "true" or "false"
}

// DeadLetterCounts has one for each reason.
type DeadLetterCounts struct {
	Counts []DeadLetterCount `json:"counts"`
}

// The methods about dead letters. They are FORBIDDEN but to an ADMIN and to services.
var (
	ListDeadLetters  = rpc.Method[DeadLettersRequest, rpc.List[DeadLetter]]{Service: Service, Name: "list_dead_letters", Version: 1}
	GetDeadLetter    = rpc.Method[IDRequest, DeadLetter]{Service: Service, Name: "get_dead_letter", Version: 1}
	CountDeadLetters = rpc.Method[rpc.Empty, DeadLetterCounts]{Service: Service, Name: "count_dead_letters", Version: 1}
	// ReplayDeadLetter sends one once more, as it came, and answers once the stream has it. What can still not be applied is another dead
	// letter then. Safe to repeat as far as the input is: what has an effect has it once.
	ReplayDeadLetter = rpc.Method[IDRequest, DeadLetter]{Service: Service, Name: "replay_dead_letter", Version: 1}
)
