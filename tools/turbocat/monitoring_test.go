//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

const (
	deployDir     = "../../deploy"
	monitoringDoc = "docs/monitoring.md"
)

// known are the metrics that an expression may name, and the labels of each when it is scraped.
type known map[string][]string

// scraped gives them of what services register: by the names that a scrape has, with the labels that it adds.
func scraped(all map[string]metric) known {
	out := known{"up": {"instance", "job"}}
	for name, m := range all {
		own := append([]string{"instance", "job"}, m.labels...)
		if !m.histogram() {
			out[name] = own
			continue
		}
		if !m.seen { // it may be a counter that has not counted
			out[name] = own
		}
		out[name+"_count"], out[name+"_sum"], out[name+"_bucket"] = own, own, append([]string{"le"}, own...)
	}
	return out
}

var variablePattern = regexp.MustCompile(`\$__(rate_interval|interval|range)|\$\{?[a-z_]+\}?`)

// faults tells what an expression names that is not there. labelsOf are those that its outcome has.
func (k known) faults(expr string) (labelsOf []string, err error) {
	expr = variablePattern.ReplaceAllStringFunc(expr, func(v string) string {
		if strings.HasPrefix(v, "$__") {
			return "5m"
		}
		return "x"
	})
	tree, err := parser.ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	return k.walk(tree)
}

func (k known) walk(node parser.Node) ([]string, error) {
	switch n := node.(type) {
	case *parser.VectorSelector:
		return k.selector(n)
	case *parser.AggregateExpr:
		has, err := k.walk(n.Expr)
		err = errors.Join(err, within(n.Grouping, has, n))
		switch {
		case n.Op == parser.TOPK || n.Op == parser.BOTTOMK:
			return has, err
		case n.Without:
			return slices.DeleteFunc(has, func(l string) bool { return slices.Contains(n.Grouping, l) }), err
		}
		return n.Grouping, err
	case *parser.BinaryExpr:
		left, lerr := k.walk(n.LHS)
		right, rerr := k.walk(n.RHS)
		err := errors.Join(lerr, rerr)
		if m := n.VectorMatching; m != nil && n.LHS.Type() == parser.ValueTypeVector && n.RHS.Type() == parser.ValueTypeVector {
			if m.On {
				err = errors.Join(err, within(m.MatchingLabels, left, n), within(m.MatchingLabels, right, n))
			} else if n.Op != parser.LOR && !slices.Equal(slices.Sorted(slices.Values(left)), slices.Sorted(slices.Values(right))) {
				err = errors.Join(err, fmt.Errorf("%s: the left side has the labels %v and the right %v, so nothing matches", n, left, right))
			}
		}
		if n.LHS.Type() == parser.ValueTypeVector {
			return left, err
		}
		return right, err
	}
	var has []string
	var err error
	for _, child := range parser.Children(node) {
		of, cerr := k.walk(child)
		has, err = append(has, of...), errors.Join(err, cerr)
	}
	if call, ok := node.(*parser.Call); ok && call.Func.Name == "histogram_quantile" {
		if !slices.Contains(has, "le") {
			err = errors.Join(err, fmt.Errorf("%s: a quantile needs the label le", call))
		}
		has = slices.DeleteFunc(slices.Clone(has), func(l string) bool { return l == "le" })
	}
	return has, err
}

// selector gives the labels that all the metrics have which it names.
func (k known) selector(s *parser.VectorSelector) (has []string, err error) {
	var name *labels.Matcher
	for _, m := range s.LabelMatchers {
		if m.Name == labels.MetricName {
			name = m
		}
	}
	if name == nil {
		return nil, fmt.Errorf("%s names no metric", s)
	}
	found := false
	for metric, own := range k {
		if !name.Matches(metric) {
			continue
		}
		if !found {
			has = slices.Clone(own)
		}
		found = true
		has = slices.DeleteFunc(has, func(l string) bool { return !slices.Contains(own, l) })
	}
	if !found {
		return nil, fmt.Errorf("no service registers %s", name.Value)
	}
	var used []string
	for _, m := range s.LabelMatchers {
		if m != name {
			used = append(used, m.Name)
		}
	}
	return has, within(used, has, s)
}

func within(used, has []string, where fmt.Stringer) error {
	var err error
	for _, label := range used {
		if !slices.Contains(has, label) {
			err = errors.Join(err, fmt.Errorf("%s: there is no label %s, only %v", where, label, has))
		}
	}
	return err
}

// TestExpressionsAreChecked has the checks that follow fail at what they are for.
func TestExpressionsAreChecked(t *testing.T) {
	t.Parallel()
	k := known{"a_total": {"instance", "job", "reason"}, "b_total": {"instance", "job"}, "c_seconds_bucket": {"instance", "job", "le"}}
	for expr, want := range map[string]string{
		`sum by (reason) (rate(a_total{job="x"}[$__rate_interval]))`:                    "",
		`histogram_quantile(0.9, sum by (le) (rate(c_seconds_bucket[5m]))) > 1`:         "",
		`sum(rate({__name__=~"[ab]_total"}[5m])) / sum(rate(b_total[5m]))`:              "",
		`max by (job) (a_total) > 0 and max by (job) (b_total) == 0`:                    "",
		`count(a_total == 0) or vector(0)`:                                              "",
		`rate(a_totals[5m])`:                                                            "no service registers a_totals",
		`b_total{reason="x"}`:                                                           "there is no label reason",
		`sum by (reason) (b_total)`:                                                     "there is no label reason",
		`{__name__=~"[ab]_total", reason="x"}`:                                          "there is no label reason",
		`max by (job) (a_total) > 0 and max(b_total) == 0`:                              "nothing matches",
		`a_total > on (reason) b_total`:                                                 "there is no label reason",
		`histogram_quantile(0.9, sum(rate(c_seconds_bucket[5m])))`:                      "needs the label le",
		`sum(rate(a_total))`:                                                            "expected type range vector",
		`{reason="x"}`:                                                                  "names no metric",
		`sum(sum by (job) (a_total)) by (reason)`:                                       "there is no label reason",
		`topk(3, sum by (reason) (rate(a_total[5m]))) > 0 and sum by (job) (b_total)>0`: "nothing matches",
	} {
		_, err := k.faults(expr)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", expr, err, want)
		}
	}
}

type dashboard struct {
	UID, Title, Description string
	Panels                  []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ UID string }
		GridPos                  struct{ X, Y, W, H int }
		FieldConfig              struct {
			Defaults struct{ Unit string }
		}
		Targets []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
}

type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

var (
	legendPattern   = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)
	templatePattern = regexp.MustCompile(`\$labels\.(\w+)`)
	headingPattern  = regexp.MustCompile(`(?m)^### ([A-Z]\w+)$`)
)

// TestDashboardsAndAlerts holds what deploy/ shows and warns of against the metrics that there are, and alerts against their pages.
func TestDashboardsAndAlerts(t *testing.T) {
	k := scraped(registered(t))
	t.Run("dashboards", func(t *testing.T) { checkDashboards(t, k) })
	t.Run("alerts", func(t *testing.T) { checkAlerts(t, k) })
}

func checkDashboards(t *testing.T, k known) {
	files, err := filepath.Glob(deployDir + "/grafana/dashboards/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	uids := map[string]bool{}
	for _, file := range files {
		var d dashboard
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, &d)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if d.UID == "" || uids[d.UID] || d.Title == "" || d.Description == "" || len(d.Panels) == 0 {
			t.Errorf("%s needs a uid of its own, a title, a description and panels", file)
		}
		uids[d.UID] = true
		if v := d.Templating.List; len(v) != 1 || v[0].Name != "datasource" || v[0].Type != "datasource" || v[0].Query != "prometheus" {
			t.Errorf("%s: the variable datasource is the one way to a Prometheus; it has %+v", file, v)
		}
		ids, places := map[int]bool{}, map[[2]int]string{}
		for _, p := range d.Panels {
			where := filepath.Base(file) + ": " + p.Title
			if ids[p.ID] || p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
				t.Errorf("%s needs an id of its own, a title, a description, a unit, the datasource ${datasource} and something to show", where)
			}
			ids[p.ID] = true
			for x := range p.GridPos.W {
				for y := range p.GridPos.H {
					at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
					if places[at] != "" || at[0] >= 24 {
						t.Fatalf("%s lies over %s or beyond the edge", where, places[at])
					}
					places[at] = p.Title
				}
			}
			for _, target := range p.Targets {
				has, err := k.faults(target.Expr)
				if err != nil {
					t.Errorf("%s: %v", where, err)
				}
				for _, label := range legendPattern.FindAllStringSubmatch(target.LegendFormat, -1) {
					if !slices.Contains(has, label[1]) {
						t.Errorf("%s: the legend names the label %s, and there are %v", where, label[1], has)
					}
				}
			}
		}
	}
}

func checkAlerts(t *testing.T, k known) {
	var all rules
	readYAML(t, deployDir+"/prometheus/alerts.yml", &all)
	doc, err := os.ReadFile("../../" + monitoringDoc)
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]bool{}
	for _, heading := range headingPattern.FindAllStringSubmatch(string(doc), -1) {
		pages[heading[1]] = true
	}
	alerts := map[string]bool{}
	for _, group := range all.Groups {
		for _, r := range group.Rules {
			if r.Alert == "" || alerts[r.Alert] {
				t.Errorf("%s: each rule is an alert with a name of its own; %q is not", group.Name, r.Alert)
			}
			alerts[r.Alert] = true
			if _, err := time.ParseDuration(r.For); r.For != "" && err != nil {
				t.Errorf("%s: for: %v", r.Alert, err)
			}
			if s := r.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s has the severity %q; critical wakes somebody, warning is for the day", r.Alert, s)
			}
			has, err := k.faults(r.Expr)
			if err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
			for _, name := range []string{"summary", "description"} {
				if len(r.Annotations[name]) < 20 {
					t.Errorf("%s needs a %s that says something", r.Alert, name)
				}
				for _, label := range templatePattern.FindAllStringSubmatch(r.Annotations[name], -1) {
					if !slices.Contains(has, label[1]) {
						t.Errorf("%s: its %s names the label %s, and there are %v", r.Alert, name, label[1], has)
					}
				}
			}
			if want := monitoringDoc + "#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want || !pages[r.Alert] {
				t.Errorf("%s: runbook_url is %q; it is to be %s, a heading ### %s that is there", r.Alert, r.Annotations["runbook_url"], want, r.Alert)
			}
		}
	}
	for page := range pages {
		if !alerts[page] {
			t.Errorf("%s has a page for %s, which no rule is named", monitoringDoc, page)
		}
	}
	if len(alerts) < 20 {
		t.Errorf("only %d alerts; are they still found?", len(alerts))
	}
}

// TestMonitoringIsWired compares what the files of deploy/ say of one another: the jobs, which dashboards and alerts select, are those of all services.
func TestMonitoringIsWired(t *testing.T) {
	t.Parallel()
	var scraping struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			Job   string `yaml:"job_name"`
			Names []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, deployDir+"/prometheus/prometheus.yml", &scraping)
	jobs := map[string]bool{}
	for _, c := range scraping.ScrapeConfigs {
		if len(c.Names) != 1 || len(c.Names[0].Names) != 1 || "turbocat-"+c.Names[0].Names[0] != c.Job || c.Names[0].Port == 0 {
			t.Errorf("the job %s does not scrape the service of its name: %+v", c.Job, c.Names)
		}
		jobs[c.Job] = true
	}
	for _, unit := range units() {
		if !jobs["turbocat-"+unit.Name] {
			t.Errorf("nobody scrapes %s", unit.Name)
		}
		delete(jobs, "turbocat-"+unit.Name)
	}
	if len(jobs) > 0 || !slices.Equal(scraping.RuleFiles, []string{"alerts.yml"}) {
		t.Errorf("there are the jobs %v of no service, and the rules %v", slices.Collect(maps.Keys(jobs)), scraping.RuleFiles)
	}
	var sources struct {
		Datasources []struct{ UID, Type, URL string }
	}
	readYAML(t, deployDir+"/grafana/provisioning/datasources/prometheus.yml", &sources)
	if len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" || sources.Datasources[0].UID != "prometheus" {
		t.Errorf("the data sources are %+v", sources.Datasources)
	}
	var providers struct {
		Providers []struct{ Options struct{ Path string } }
	}
	readYAML(t, deployDir+"/grafana/provisioning/dashboards/turbocat.yml", &providers)
	if len(providers.Providers) != 1 || providers.Providers[0].Options.Path == "" {
		t.Errorf("the dashboards are provided by %+v", providers.Providers)
	}
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
