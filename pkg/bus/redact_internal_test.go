package bus

import "testing"

func TestRedact(t *testing.T) {
	for address, want := range map[string]string{
		"nats://u:secret@a:1": "nats://u:xxxxx@a:1", "nats://u:secret@a:1,nats://u:secret@b:2": "nats://u:xxxxx@a:1,nats://u:xxxxx@b:2",
		"nats://a:1, nats://b:2": "nats://a:1,nats://b:2", "nats://a:1,u:secret@b": "the given address",
	} {
		if got := redact(address); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
}
