package bus

import "golang.org/x/sync/semaphore"

// What tests go up to the edges of.
const (
	PartSize = partSize
	MaxBody  = maxBody
)

// HoldAtMost bounds the bytes of large requests that the server holds at once.
func (s *Server) HoldAtMost(n int64) { s.pulled = semaphore.NewWeighted(n) }
