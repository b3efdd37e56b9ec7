// Package enginetest says a second time what engine.Apply must come to: a reference
// interpreter of workflows, drawn at random, and the story that an execution's public events
// may tell. Tests of the engine and of the shell around it compare with both.
package enginetest
