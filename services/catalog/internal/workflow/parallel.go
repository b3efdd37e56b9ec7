package workflow

import (
	"encoding/json"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
)

// readParallel reads a catalog.ParallelConfig.
func readParallel(o form.Object, faults *form.Faults) (n names) {
	checkFields(o, faults, "branches", "join")
	require(o, faults, "branches")
	branches, given := o.List("branches", "branches")
	count := len(branches)
	if !given {
		count = catalog.MaxBranches // no fault of join
	} else if count == 0 || count > catalog.MaxBranches {
		faults.Add(o.Field("branches"), errs.OutOfRange, "has %d branches; give 1 to %d", count, catalog.MaxBranches)
		branches, count = nil, catalog.MaxBranches
	}
	seen := map[string]bool{}
	for i, raw := range branches {
		b, ok := form.Open(form.At(o.Field("branches"), i), raw, faults)
		if !ok {
			continue
		}
		checkFields(b, faults, "key", "agentId", "inputs")
		require(b, faults, "key", "agentId")
		readBranchKey(b, seen, faults)
		readBranchAgent(b, faults)
		var inputs json.RawMessage
		if b.Object("inputs", &inputs, nil); inputs != nil {
			n.templates = append(n.templates, templated{at: b.Field("inputs"), raw: inputs, secrets: true})
		}
	}
	readJoin(o, count, faults)
	return n
}

func readBranchKey(b form.Object, seen map[string]bool, faults *form.Faults) {
	var key string
	b.String("key", &key, "", 1, 64)
	switch {
	case key == "":
	case !stepKeyPattern.MatchString(key):
		faults.Add(b.Field("key"), errs.BadKey, "%s is no key; use letters, digits and _, and begin with a letter or _", form.Quote(key))
	case seen[key]:
		faults.Add(b.Field("key"), errs.DuplicateKey, "the key %s stands twice; give each branch a key of its own", form.Quote(key))
	}
	seen[key] = true
}

func readBranchAgent(b form.Object, faults *form.Faults) {
	var id string
	b.String("agentId", &id, "", 1, 200)
	switch {
	case id == "" || isAgentID(id):
	case canonicalUUID(id):
		faults.Add(b.Field("agentId"), errs.BadValue, "has capitals; write %s", strings.ToLower(id))
	default:
		faults.Add(b.Field("agentId"), errs.BadValue, "%s is no UUID; give the id of an agent", form.Quote(id))
	}
}

// readJoin reads how many of count branches must complete.
func readJoin(o form.Object, count int, faults *form.Faults) {
	const name = "join"
	switch raw := rawField(o, name); {
	case raw == nil:
	case raw[0] == '"':
		if s := string(raw); s != `"`+catalog.JoinAll+`"` && s != `"`+catalog.JoinAny+`"` {
			faults.Add(o.Field(name), errs.BadEnum, "is %s; give all, any or the number of branches that must complete", form.Quote(o.Text(name)))
		}
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		wholeNumber(o, name, 1, int64(count), faults)
	default:
		faults.Add(o.Field(name), errs.BadType, "is no string and no number; give all, any or the number of branches that must complete")
	}
}
