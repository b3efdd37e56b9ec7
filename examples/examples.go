// Package examples holds workflows that run on real data, a folder each.
package examples

import _ "embed"

//go:embed timezones/workflow.yaml
var timezonesWorkflow []byte

//go:embed timezones/tzdata.zi
var timezonesText string

//go:embed review/workflow.yaml
var reviewWorkflow []byte

//go:embed order/workflow.yaml
var orderWorkflow []byte

// Order gives the workflow file of order/, whose steps are undone when it fails.
func Order() []byte { return orderWorkflow }

// Review gives the workflow file of review/, which has a step of every type.
func Review() []byte { return reviewWorkflow }

// Timezones gives the workflow file of timezones/ and the text that it reads.
func Timezones() (workflow []byte, text string) { return timezonesWorkflow, timezonesText }
