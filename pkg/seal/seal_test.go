package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

var (
	first  = strings.Repeat("1", 32)
	second = strings.Repeat("2", 32)
	here   = Place{"user", "KEY", 3}
)

func ring(t *testing.T, current string, old ...string) *Keyring {
	t.Helper()
	k, err := NewKeyring("secrets", Keys{Current: current, Old: old})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestASealedValueOpensInItsPlaceAlone(t *testing.T) {
	k := ring(t, first)
	const value = "sk-canary-0123456789"
	sealed := k.Seal(here, value)
	if got, err := k.Open(here, sealed); got != value || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if again := k.Seal(here, value); bytes.Contains(sealed.Bytes, []byte(value)) || bytes.Equal(again.Bytes, sealed.Bytes) {
		t.Error("what is sealed shows its value, or that it is the same")
	}
	changed := bytes.Clone(sealed.Bytes)
	changed[len(changed)-1] ^= 1
	for what, try := range map[string]struct {
		at Place
		Sealed
	}{
		"another owner":         {Place{"other", "KEY", 3}, sealed},
		"another name":          {Place{"user", "KEY2", 3}, sealed},
		"another version":       {Place{"user", "KEY", 4}, sealed},
		"a name that runs over": {Place{"userK", "EY", 3}, sealed},
		"changed":               {here, Sealed{sealed.KeyID, changed}},
		"cut":                   {here, Sealed{sealed.KeyID, sealed.Bytes[:8]}},
		"nothing":               {here, Sealed{KeyID: sealed.KeyID}},
	} {
		if got, err := k.Open(try.at, try.Sealed); err == nil || got != "" || errors.Is(err, ErrUnknownKey) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

func TestOldKeysOpen(t *testing.T) {
	before := ring(t, first).Seal(here, "v")
	after := ring(t, second, first)
	if got, err := after.Open(here, before); got != "v" || err != nil {
		t.Errorf("under the old key: %q, %v", got, err)
	}
	sealed := after.Seal(here, "w")
	if sealed.KeyID != after.Current() || sealed.KeyID == before.KeyID {
		t.Errorf("sealed under %s, current is %s", sealed.KeyID, after.Current())
	}
	if _, err := ring(t, first).Open(here, sealed); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("a key that is not given: %v", err)
	}
	if _, err := ring(t, second).Open(here, Sealed{sealed.KeyID, before.Bytes}); err == nil {
		t.Error("a value opens under another key")
	}
	if a, b := ring(t, first), ring(t, " "+first+"\n"); a.Current() != b.Current() || strings.Contains(first, a.Current()) {
		t.Errorf("key ids %s, %s", a.Current(), b.Current())
	}
}

func TestAValueOpensForItsPurposeAlone(t *testing.T) {
	sealed := ring(t, first).Seal(here, "v")
	other, err := NewKeyring("webhooks", Keys{Current: first})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := other.Open(here, sealed); !errors.Is(err, ErrUnknownKey) || got != "" {
		t.Errorf("for another purpose: %q, %v", got, err)
	}
	if got, err := other.Open(here, Sealed{other.Current(), sealed.Bytes}); err == nil || got != "" {
		t.Errorf("for another purpose, said to be of it: %q, %v", got, err)
	}
}

func TestKeysAreNamedByWhatIsWrongWithThem(t *testing.T) {
	if err := (Keys{Current: first, Old: []string{second}}).Check(); err != nil {
		t.Error(err)
	}
	err := Keys{Old: []string{second, "short"}}.Check()
	if err == nil || !strings.Contains(err.Error(), "ENCRYPTION_KEY is not set") || !strings.Contains(err.Error(), "TURBOCAT_OLD_ENCRYPTION_KEYS has 5 bytes") {
		t.Error(err)
	}
}
