// Package partitiontest has what tests put around an owner of partitions: the ledger and
// JetStream in memory, wrappers that make any ledger and transport fail the way networks and
// processes do, and the suite that every ledger must pass.
//
// The wrappers decide by a Chance: what happens to a call depends on the seed, on what the
// call is about and on how often it was made before, not on which goroutine came first. All
// waiting goes by package time, so that inside a testing/synctest bubble hours pass at once.
package partitiontest
