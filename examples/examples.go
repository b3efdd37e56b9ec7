// Package examples holds workflows that run on real data, a folder each.
package examples

import _ "embed"

//go:embed timezones/workflow.yaml
var timezonesWorkflow []byte

//go:embed timezones/tzdata.zi
var timezonesText string

//go:embed review/workflow.yaml
var reviewWorkflow []byte

// Review gives the workflow file of review/, which has a step of every type.
func Review() []byte { return reviewWorkflow }

// Timezones gives the workflow file of timezones/ and the text that it reads.
func Timezones() (workflow []byte, text string) { return timezonesWorkflow, timezonesText }
