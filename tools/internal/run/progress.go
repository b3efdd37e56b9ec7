package run

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/client"
)

const (
	// columns is how wide the line below the others may be without wrapping on most terminals.
	columns   = 78
	clearLine = "\r\x1b[K"
)

// Progress shows the steps of one execution, a line each as they begin and end. On a terminal those that
// run stand in one line below, which changes in place.
type Progress struct {
	Out  io.Writer
	Live bool // Out is a terminal

	width   int
	total   int
	ended   int
	running []string
}

func (p *Progress) begin(name string, steps []catalog.Step, executionID string) {
	p.total = len(steps)
	for _, s := range steps {
		p.width = min(max(p.width, len(s.StepKey)), 24)
	}
	p.line("Running %q, %s, as execution %s", name, count(p.total, "step"), executionID)
	p.status()
}

// show shows one event.
func (p *Progress) show(e client.Event) {
	d := e.Data
	took := ""
	if d.DurationMs != nil {
		took = " in " + duration(*d.DurationMs)
	}
	why := ""
	if d.Error != nil {
		why = ": " + firstLine(d.Error.Message)
	}
	switch e.Type {
	case orchestrator.EventStepStarted.String():
		if !slices.Contains(p.running, d.StepKey) {
			p.running = append(p.running, d.StepKey)
		}
		switch {
		case p.Live:
		case d.Attempt > 1:
			p.step(d, fmt.Sprintf("running, attempt %d", d.Attempt))
		default:
			p.step(d, "running")
		}
	case orchestrator.EventStepRetryScheduled.String():
		again := ""
		if d.Until != nil {
			again = "; tries again at " + d.Until.Local().Format(time.TimeOnly)
		}
		p.step(d, fmt.Sprintf("attempt %d failed%s%s", d.Attempt, why, again))
	case orchestrator.EventStepCompleted.String():
		p.over(d, "completed"+took)
	case orchestrator.EventStepFailed.String():
		p.over(d, "failed"+took+why)
	case orchestrator.EventStepSkipped.String():
		p.over(d, "skipped")
	case orchestrator.EventStepCancelled.String():
		p.over(d, "cancelled"+took)
	}
	p.status()
}

// end leaves nothing on the changing line.
func (p *Progress) end() {
	if p.Live {
		_, _ = io.WriteString(p.Out, clearLine)
	}
}

func (p *Progress) over(d orchestrator.ExecutionEvent, text string) {
	p.ended++
	p.running = slices.DeleteFunc(p.running, func(key string) bool { return key == d.StepKey })
	p.step(d, text)
}

func (p *Progress) step(d orchestrator.ExecutionEvent, text string) {
	p.line("  %-*s  %s", p.width, d.StepKey, text)
}

func (p *Progress) line(format string, args ...any) {
	p.end()
	_, _ = fmt.Fprintf(p.Out, format+"\n", args...)
}

func (p *Progress) status() {
	if !p.Live {
		return
	}
	text := fmt.Sprintf("  %d of %d", p.ended, p.total)
	if len(p.running) > 0 {
		text += "; running: " + strings.Join(p.running, ", ")
	}
	if len(text) > columns { // step keys are ASCII
		text = text[:columns-3] + "..."
	}
	_, _ = io.WriteString(p.Out, clearLine+text)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func duration(ms int64) string {
	if ms < 1000 {
		return fmt.Sprintf("%d ms", ms)
	}
	return fmt.Sprintf("%.1f s", float64(ms)/1000)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return Plain(line)
}

// Plain leaves out what would steer a terminal: the text may be that of user code.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}
