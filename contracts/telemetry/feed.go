package telemetry

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// A user's feed has the public events of all executions of the user, and those that the user has brought in from outside, each once, in the one order in
// which everybody is told of them. Those of an execution are in the order of their seq. A cursor is a place in it: the number of events up to there.

// MaxFeed is how many events one FeedRequest gives at most.
const MaxFeed = 1000

// FeedRequest asks for events of the caller's feed.
type FeedRequest struct {
	After  uint64     `json:"after,omitempty"`  // a cursor: only what is behind it
	Since  *time.Time `json:"since,omitempty"`  // instead: what happened then or later
	Latest bool       `json:"latest,omitempty"` // instead: nothing but the cursor of the end
	Types  []string   `json:"types,omitempty"`  // of which one is wanted; none for all
	Limit  int        `json:"limit,omitempty"`  // up to MaxFeed; 0 is that
}

// FeedEvent is an event of a feed.
type FeedEvent struct {
	Cursor uint64          `json:"cursor"`
	Type   string          `json:"type"`
	Body   json.RawMessage `json:"body"` // the CloudEvent
}

// FeedResponse has events in their order. It may have fewer than there are, or none that are wanted among those that it looked at.
type FeedResponse struct {
	Events  []FeedEvent `json:"events"`
	Cursor  uint64      `json:"cursor"`            // up to which it looked: After of the next request
	More    bool        `json:"more,omitempty"`    // there is something behind Cursor
	Skipped uint64      `json:"skipped,omitempty"` // events behind After that are not kept any more
}

// FeedNews is the body of a message on subject.FeedNews: where the feeds of users end now, by their ids.
type FeedNews struct {
	Ends map[string]uint64 `json:"ends"`
}

// Limits of IngestEvents.
const (
	MaxIngested      = 500       // events at once
	MaxIngestedEvent = 256 << 10 // bytes of an event in its JSON format
	// IngestedKept is for how long an event is known by its source and id.
	IngestedKept = 7 * 24 * time.Hour
)

// CausationDepth is the attribute by which an event tells how many executions stand before it, each of which made the next one begin.
const CausationDepth = "causationdepth"

// IngestRequest brings events from outside into the caller's feed.
type IngestRequest struct {
	Events []json.RawMessage `json:"events"` // CloudEvents in their JSON format
}

// Ingested tells what has become of events.
type Ingested struct {
	Accepted int `json:"accepted"` // that are in the feed now
	Repeated int `json:"repeated"` // that were there before, by source and id
}

// IngestEvents takes all of the events or, with VALIDATION_ERROR for every fault of them, none. It is safe to repeat.
var IngestEvents = rpc.Method[IngestRequest, Ingested]{Service: Service, Name: "ingest_events", Version: 1}

// ReadFeed reads the caller's feed.
var ReadFeed = rpc.Method[FeedRequest, FeedResponse]{Service: Service, Name: "read_feed", Version: 1}
