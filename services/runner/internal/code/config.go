package code

import (
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/services/runner/internal/code/script"
	"turbocat.io/services/runner/internal/form"
)

// Bounds of a config.
const (
	minMemoryMb  = 16
	maxMemoryMb  = 1024
	maxTimeoutMs = 3_600_000
	maxFileName  = 200
)

// config is the config of a CODE agent, checked and with its defaults filled in.
type config struct {
	runtime  string
	files    []script.File
	main     string // the file that has the function
	entry    string
	timeout  time.Duration
	memoryMb uint64
	secrets  []string // that context.secrets has
	hosts    hosts    // that it may fetch from
}

// parse reads a config that can be run, and every fault of one that can not.
func parse(raw json.RawMessage) (config, *form.Faults) {
	var faults form.Faults
	o, ok := form.Read(raw, &faults)
	if !ok {
		return config{}, &faults
	}
	c := config{entry: o.String("entry", "handler")}
	c.readRuntime(o, &faults)
	c.readFiles(o, &faults)
	if c.entry == "" {
		faults.Add("entry", "is empty; name the function to call, or leave it out for handler")
	}
	c.timeout = time.Duration(o.Int("timeoutMs", 1, maxTimeoutMs, 30_000)) * time.Millisecond
	c.memoryMb = uint64(o.Int("memoryMb", minMemoryMb, maxMemoryMb, 128))
	c.readHosts(o, &faults)
	names, _ := o.List("secrets")
	for _, v := range names {
		name, _ := v.Text(&faults)
		c.secrets = append(c.secrets, name)
	}
	o.Done()
	return c, &faults
}

func (c *config) readRuntime(o *form.Object, faults *form.Faults) {
	switch c.runtime = o.Required("runtime", "use javascript, typescript or python"); c.runtime {
	case catalog.RuntimeJavaScript, catalog.RuntimeTypeScript, catalog.RuntimePython, "":
	default:
		faults.Add("runtime", "is %q, which is not known; use javascript, typescript or python", c.runtime)
	}
}

// fileName is what a file may be called; files import each other by it.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)

// readFiles reads the code, which stands in source or in files.
func (c *config) readFiles(o *form.Object, faults *form.Faults) {
	before := len(faults.All())
	source := o.String("source", "")
	checkSize("source", source, faults)
	c.main = o.String("main", "")
	if o.Has("main") && c.main == "" {
		faults.Add("main", "is empty; name a file, or leave it out")
	}
	at := "source"
	if files, ok := o.Sub("files"); ok && len(files.Names()) > 0 {
		if o.Has("source") {
			faults.Add("files", "stands beside source; give one of them")
		}
		var fault string
		if c.main, fault = catalog.MainFile(c.runtime, c.main, files.Names()); fault != "" {
			faults.Add("main", "%s", fault)
		}
		files.Each(func(name string, v form.Value) {
			text, _ := v.Text(faults)
			checkSize(v.Path, text, faults)
			if !fileName.MatchString(name) || len(name) > maxFileName {
				faults.Add(v.Path, "is no name of a file; give up to %d letters, digits, _, - and ., with / between folders", maxFileName)
			}
			if name == c.main {
				at, source = v.Path, text
			}
			c.files = append(c.files, script.File{Name: name, Text: []byte(text)})
		})
	} else {
		if c.main != "" {
			faults.Add("main", "names a file, and there are no files; remove it")
		}
		c.main = "handler" + catalog.CodeEnding(c.runtime)
		c.files = []script.File{{Name: c.main, Text: []byte(source)}}
	}
	if strings.TrimSpace(source) == "" && len(faults.All()) == before {
		word := "function"
		if c.runtime == catalog.RuntimePython {
			word = "def"
		}
		faults.Add(at, "is empty; write %s %s(input, context)", word, c.entry)
	}
}

func checkSize(at, source string, faults *form.Faults) {
	if len(source) > catalog.MaxCodeSource {
		faults.Add(at, "has %d bytes, more than %d; shorten it", len(source), catalog.MaxCodeSource)
	}
}

func (c *config) readHosts(o *form.Object, faults *form.Faults) {
	list, _ := o.List("allowHosts")
	for _, v := range list {
		text, ok := v.Text(faults)
		if ok && !hostForm.MatchString(text) {
			faults.Add(v.Path, "is no host; write it like api.example.com, *.example.com or api.example.com:8443")
		}
		c.hosts = append(c.hosts, strings.ToLower(text))
	}
}
