// Package examples holds workflows that run on real data, a folder each.
package examples

import _ "embed"

//go:embed timezones/workflow.yaml
var timezonesWorkflow []byte

//go:embed timezones/tzdata.zi
var timezonesText string

// Timezones gives the workflow file of timezones/ and the text that it reads.
func Timezones() (workflow []byte, text string) { return timezonesWorkflow, timezonesText }
