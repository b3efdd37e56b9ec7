package code

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// hostForm is what an entry of config.allowHosts may be; the schema of configs has the same.
var hostForm = regexp.MustCompile(`^([*][.])?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?([.][A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*(:[1-9][0-9]{0,4})?$`)

// hosts are what code may fetch from, in lower case: a host by https at its usual port, host:port by http or https at that port.
// *.host stands for all hosts whose names end with .host, and not for host itself.
type hosts []string

// refusal tells why u may not be fetched, and what to do about it; nil when it may.
func (h hosts) refusal(u *url.URL) error {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	usual := u.Scheme == "https" && (port == "" || port == "443")
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	for _, allowed := range h {
		name, allowedPort, named := strings.Cut(allowed, ":")
		below, wild := strings.CutPrefix(name, "*")
		if (host == name || wild && strings.HasSuffix(host, below)) && (named && port == allowedPort || !named && usual) {
			return nil
		}
	}
	wanted := host
	if !usual {
		wanted += ":" + port
	}
	return fmt.Errorf("the agent may not reach %s; add %q to config.allowHosts", wanted, wanted)
}
