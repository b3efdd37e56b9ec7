package guard

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParseAllow reads Config.Allow from text: CIDRs or single addresses with commas between
// them. It is strict, so that no misspelt range opens more or less than was meant.
func ParseAllow(text string) ([]netip.Prefix, error) {
	var allow []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if a, errAddr := netip.ParseAddr(part); err != nil && errAddr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no address range; write it like 10.1.0.0/16", part)
		}
		if p.Masked() != p {
			return nil, fmt.Errorf("%q has bits beyond its mask; write %s, or %s/%d for the one address", part, p.Masked(), p.Addr(), p.Addr().BitLen())
		}
		allow = append(allow, p)
	}
	return allow, nil
}
