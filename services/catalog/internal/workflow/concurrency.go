package workflow

import (
	"encoding/json"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/template"
)

// readConcurrency reads the limit of executions at a time; null is none.
func (d *Draft) readConcurrency(o form.Object) {
	const name = "concurrency"
	if !o.Has(name) {
		return
	}
	d.workflow.Concurrency = nil
	raw := rawField(o, name)
	if raw == nil {
		return
	}
	limit, ok := form.Open(o.Field(name), raw, &d.faults)
	if !ok {
		return
	}
	c := catalog.Concurrency{OnLimit: catalog.OnLimitQueue}
	limit.Only("max", "key", "onLimit")
	limit.Require(true, "max")
	var most int64
	limit.Int("max", &most, 0, 1, catalog.MaxConcurrency)
	c.Max = int(most)
	limit.String("key", &c.Key, "", 0, catalog.MaxConcurrencyKey)
	limit.Enum("onLimit", &c.OnLimit, catalog.OnLimitQueue, catalog.OnLimitQueue, catalog.OnLimitDrop, catalog.OnLimitCancelOldest)
	d.checkLimitKey(limit.Field("key"), c.Key)
	d.workflow.Concurrency = &c
}

// checkLimitKey notes the faults of a key, which is made when an execution is accepted: of its inputs alone.
func (d *Draft) checkLimitKey(at, key string) {
	raw, _ := json.Marshal(key) // a string always encodes
	tpl, problems := template.Parse(raw)
	for _, p := range problems {
		d.faults.Add(at, errs.BadTemplate, "%s", p.Message)
	}
	for _, r := range tpl.References() {
		if r.Path.Root() != "inputs" {
			d.faults.Add(at, errs.BadTemplate, "{{%s}} has no value yet when an execution is accepted; name inputs only, like {{inputs.customer}}", r.Path)
		}
	}
}
