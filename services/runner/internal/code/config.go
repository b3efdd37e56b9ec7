package code

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/services/runner/internal/form"
)

// Bounds of a config.
const (
	minMemoryMb  = 16
	maxMemoryMb  = 1024
	maxTimeoutMs = 3_600_000
)

// config is the config of a CODE agent, checked and with its defaults filled in.
type config struct {
	source      string
	file        string // the name that stack traces give the source
	entry       string
	timeout     time.Duration
	memoryMb    uint64
	secrets     []string // that context.secrets has
	unsupported string   // what it asks for that this version can not do; "" when there is nothing
}

// parse reads a config that can be run, and every fault of one that can not.
func parse(raw json.RawMessage) (config, *form.Faults) {
	var faults form.Faults
	o, ok := form.Read(raw, &faults)
	if !ok {
		return config{}, &faults
	}
	c := config{file: "handler.js", entry: o.String("entry", "handler")}
	c.readRuntime(o, &faults)
	c.readSource(o, &faults)
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
	switch runtime := o.Required("runtime", "use javascript"); runtime {
	case "javascript", "":
	case "typescript", "python":
		c.refuse("config.runtime: %s can not be run by this version; use javascript", runtime)
	default:
		faults.Add("runtime", "is %q, which is not known; use javascript", runtime)
	}
}

// readSource reads the code, which stands in source or in the only one of files.
func (c *config) readSource(o *form.Object, faults *form.Faults) {
	before := len(faults.All())
	at := "source"
	c.source = o.String(at, "")
	checkSize(at, c.source, faults)
	if files, ok := o.Sub("files"); ok {
		count := len(files.Names())
		if count > 0 && o.Has("source") {
			faults.Add("files", "stands beside source; give one of them")
		}
		files.Each(func(name string, v form.Value) {
			text, _ := v.Text(faults)
			checkSize(v.Path, text, faults)
			at, c.file, c.source = v.Path, name, text
		})
		if count > 1 {
			c.refuse("config.files: has %d files, and this version runs one; put the code in one file", count)
			return
		}
	}
	if strings.TrimSpace(c.source) == "" && len(faults.All()) == before {
		faults.Add(at, "is empty; write function %s(input, context)", c.entry)
	}
}

func checkSize(at, source string, faults *form.Faults) {
	if len(source) > catalog.MaxCodeSource {
		faults.Add(at, "has %d bytes, more than %d; shorten it", len(source), catalog.MaxCodeSource)
	}
}

func (c *config) readHosts(o *form.Object, faults *form.Faults) {
	hosts, _ := o.List("allowHosts")
	for _, host := range hosts {
		host.Text(faults)
	}
	if len(hosts) > 0 {
		c.refuse("config.allowHosts: this version can not give code access to the network; leave it empty, and call hosts from an API step")
	}
}

// refuse notes what this version can not do.
func (c *config) refuse(format string, args ...any) {
	if c.unsupported != "" {
		c.unsupported += "; "
	}
	c.unsupported += fmt.Sprintf(format, args...)
}
