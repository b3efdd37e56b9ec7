package telemetry

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// A user's feed has the public events of all executions of the user, each once, in the one order in which everybody is told of them. Those of
// an execution are in the order of their seq. A cursor is a place in it: the number of events up to there.

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

// ReadFeed reads the caller's feed.
var ReadFeed = rpc.Method[FeedRequest, FeedResponse]{Service: Service, Name: "read_feed", Version: 1}
