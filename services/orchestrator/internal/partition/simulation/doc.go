// Package simulation runs owners of partitions, as they are, in a world that is not: a ledger
// and JetStream in memory, runners and clients that follow a script, faults by chance, and a
// clock that jumps to the next thing that happens. One seed is one world; docs/engine.md says
// how to run and replay it. The package consists of tests.
package simulation
