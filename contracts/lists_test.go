package contracts_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts"
	"turbocat.io/contracts/subject"
)

// TestSubjects compares the subjects as documents show them with those that services use.
func TestSubjects(t *testing.T) {
	const p = 7
	used := map[string]string{
		"exec.in.{p}.run": subject.ExecutionInputRun(p), "exec.in.{p}.ctl": subject.ExecutionInputControl(p),
		"step.{pool}.{agentType}.{priority}": subject.Step("default", "CODE", 5), "log.{p}": subject.Logs(p), "tok.{p}": subject.Tokens(p), "evt.{p}": subject.Events(p), "runner.heartbeat": subject.RunnerHeartbeat, "feed.news": subject.FeedNews, "logs.news": subject.LogNews, "probe.{service}": subject.Probe("runner"),
		subject.StepsOpen: subject.StepsOpen,
		"audit.{service}": subject.Audit("runner"),
	}
	fill := strings.NewReplacer("{p}", "7", "{pool}", "default", "{agentType}", "CODE", "{priority}", "5", "{service}", "runner")
	for _, m := range slices.Concat(contracts.Events(), contracts.Messages()) {
		got := fill.Replace(m.Subject)
		switch {
		case used[m.Subject] == "":
			t.Errorf("%s is listed on %s, which is unknown here; add what contracts/subject gives for it to used, and new parameters to fill", m.Name, m.Subject)
		case got != used[m.Subject]:
			t.Errorf("%s is listed on %s, which is %q; services use %q", m.Name, m.Subject, got, used[m.Subject])
		}
	}
}

// TestListsSayEverything wants a sentence about, a sender and a receiver of everything, and no name twice.
func TestListsSayEverything(t *testing.T) {
	names := map[string]bool{}
	unique := func(name string) {
		if names[name] {
			t.Errorf("%s is listed twice", name)
		}
		names[name] = true
	}
	fields := func(of string, list []contracts.Field) {
		for _, f := range list {
			if f.Name == "" || !isSentence(f.Doc) {
				t.Errorf("%s: the field %q is documented as %q", of, f.Name, f.Doc)
			}
		}
	}
	for _, m := range slices.Concat(contracts.Events(), contracts.Messages()) {
		unique(m.Name)
		if !isSentence(m.Doc) || m.Stream == "" && m.Mode != contracts.Plain || !areServices(m.Senders) || m.Data != nil && !areServices(m.Receivers) {
			t.Errorf("%s is not all said: %+v", m.Name, m)
		}
		fields(m.Name, m.Headers)
		for _, name := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(m.Subject, -1) {
			if !slices.ContainsFunc(contracts.Parameters(), func(p contracts.Parameter) bool { return p.Name == name[1] }) {
				t.Errorf("%s: {%s} is not among Parameters", m.Name, name[1])
			}
		}
	}
	for _, m := range contracts.Methods() {
		name := subject.RPC(m.Service, m.Version, m.Name)
		unique(name)
		if !isSentence(m.Doc) || len(m.Callers) == 0 || m.Version < 1 || !areServices([]string{m.Service}) {
			t.Errorf("%s is not all said: %+v", name, m)
		}
	}
	fields("an event", contracts.EventAttributes())
	fields("a request", contracts.RequestHeaders())
	fields("an answer", contracts.AnswerHeaders())
}

func areServices(names []string) bool {
	return len(names) > 0 && !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(contracts.Services(), name) })
}

// isSentence tells whether a text can stand in a table: no full stop at its end, no line break.
func isSentence(doc string) bool {
	return doc != "" && !strings.ContainsAny(doc, "\n|") && !strings.HasSuffix(doc, ".")
}

// subjectPattern gives what a subject with Parameters in braces matches.
func subjectPattern(s string) *regexp.Regexp {
	parts := regexp.MustCompile(`\{\w+\}`).Split(s, -1)
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile("^" + strings.Join(parts, `[^.]+`) + "$")
}
