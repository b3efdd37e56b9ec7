package orchestrator

import (
	"time"

	"turbocat.io/contracts/rpc"
)

// Lease tells which orchestrator runs the executions of a partition.
type Lease struct {
	Partition  int       `json:"partition"`
	Owner      string    `json:"owner"` // an orchestrator, by an id that it makes when it starts; "" for none yet
	LeaseUntil time.Time `json:"leaseUntil"`
	Held       bool      `json:"held"` // it has not run out
}

// LeaseTable has the leases of all partitions.
type LeaseTable struct {
	Leases []Lease `json:"leases"`
}

// ListLeases reads the lease table; for an ADMIN.
var ListLeases = rpc.Method[rpc.Empty, LeaseTable]{Service: Service, Name: "list_leases", Version: 1}
