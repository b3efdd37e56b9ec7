// Package chaos breaks Turbocat on purpose and checks that it keeps its promises: the built program, every service a
// process of its own, a real PostgreSQL, NATS and Redis, and a proxy with faults on every link between them.
//
// Each check prints its seed; TURBOCAT_CHAOS_SEED repeats its schedule. TURBOCAT_CHAOS=full runs all checks in full size
// and writes its table to the file that TURBOCAT_CHAOS_REPORT names, small runs all of them in small; otherwise a selection runs, in small. PostgreSQL runs with
// fsync and synchronous_commit on, as in production: without the second a crash of the server loses commits that it has answered.
package chaos
