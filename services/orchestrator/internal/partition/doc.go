// Package partition runs the engine: it owns partitions of the input log, applies their
// inputs in order, sends ready steps, and commits what follows.
//
// What must hold at every point where a process may die:
//
//   - Whoever applies inputs of a partition holds its lease, and every commit checks the
//     lease's epoch, so that of two owners at most one can write.
//   - The offset of the log moves in the same transaction as everything its inputs did.
//     What is not committed is applied again by the next owner, with the same outcome.
//   - A ready step is sent before its cause is committed, never after: an offset that has
//     moved says that nothing before it is left to send, or that the ledger says so.
//   - What the world is told (events, stops) leaves after the commit, and again after a
//     crash: receivers know it by its id.
//
// One goroutine per partition (run) holds the executions in memory; one per process (Writer)
// commits; one per partition (relay) publishes committed events.
package partition
