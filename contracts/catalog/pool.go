package catalog

import (
	"bytes"
	"encoding/json"
	"regexp"
)

// poolField of an agent's config names the pool of runners that its attempts are for. Executors do not see it.
const poolField = "runner"

// PoolPattern is what the name of a pool of runners is like.
const PoolPattern = `^[A-Za-z0-9_-]{1,64}$`

var poolName = regexp.MustCompile(PoolPattern)

// IsPool tells whether a pool of runners may be called so.
func IsPool(name string) bool { return poolName.MatchString(name) }

// SplitPool takes the name of a pool out of the config of an agent that runners run: "" when it names none, in which case rest is
// the config as it is; false when it is no name.
func SplitPool(config json.RawMessage) (pool string, rest json.RawMessage, ok bool) {
	var fields map[string]json.RawMessage
	if !bytes.Contains(config, []byte(`"`+poolField+`"`)) {
		return "", config, true
	}
	if json.Unmarshal(config, &fields) != nil || fields[poolField] == nil {
		return "", config, true
	}
	ok = json.Unmarshal(fields[poolField], &pool) == nil && IsPool(pool)
	delete(fields, poolField)
	rest, err := json.Marshal(fields)
	return pool, rest, ok && err == nil
}
