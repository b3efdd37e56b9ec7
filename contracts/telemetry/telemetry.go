// Package telemetry declares log lines and how they are read.
package telemetry

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// Service is the name of the service.
const Service = "telemetry"

// Levels of a log line, lowest first.
var Levels = []string{"DEBUG", "INFO", "WARN", "ERROR", "FATAL"}

// LogLine is one line that a step or the engine wrote.
type LogLine struct {
	ID          string          `json:"id" format:"uuid"` // UUIDv7; made by the writer, so a second insert does nothing
	ExecutionID string          `json:"executionId" format:"uuid"`
	StepKey     *string         `json:"stepKey"`
	Attempt     int             `json:"attempt"`
	Iteration   *int            `json:"iteration"`
	Seq         int64           `json:"seq"` // from 1 per attempt
	Level       string          `json:"level" enum:"DEBUG,INFO,WARN,ERROR,FATAL"`
	Source      string          `json:"source" enum:"console,stdout,stderr,engine"`
	Message     string          `json:"message"`
	Fields      json.RawMessage `json:"fields"` // a JSON object
	CreatedAt   time.Time       `json:"createdAt"`
}

// LogBatch is the body of a message on subject.Logs.
type LogBatch struct {
	Lines []LogLine `json:"lines"`
}

// LogNews is the body of a message on subject.LogNews: which executions have new lines that can be read.
type LogNews struct {
	ExecutionIDs []string `json:"executionIds"`
}

// LogsRequest asks for log lines of one execution, oldest first. The gateway has checked
// that the caller may see the execution.
type LogsRequest struct {
	ExecutionID string     `json:"executionId"`
	Level       string     `json:"level,omitempty"` // that and above
	StepKey     string     `json:"stepKey,omitempty"`
	Since       *time.Time `json:"since,omitempty"`
	Search      string     `json:"search,omitempty"`
	Page        int        `json:"page,omitempty"`
	PageSize    int        `json:"pageSize,omitempty"`
	Cursor      string     `json:"cursor,omitempty"`
}

// ListLogs reads log lines.
var ListLogs = rpc.Method[LogsRequest, rpc.List[LogLine]]{Service: Service, Name: "list_logs", Version: 1}
