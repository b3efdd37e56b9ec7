module turbocat.io/services/runner

go 1.26.0

require (
	code.dny.dev/ssrf v0.3.0
	github.com/elastic/go-seccomp-bpf v1.6.0
	github.com/google/uuid v1.6.0
	github.com/grafana/sobek v0.0.0-20260429085637-a66d4790012b
	github.com/landlock-lsm/go-landlock v0.11.0
	github.com/nats-io/nats.go v1.55.0
	github.com/rs/zerolog v1.35.1
	github.com/tidwall/gjson v1.20.0
	go.uber.org/goleak v1.3.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
)

require (
	turbocat.io/contracts v0.0.0
	turbocat.io/pkg v0.0.0
)

require pgregory.net/rapid v1.3.0

replace (
	turbocat.io/contracts => ../../contracts
	turbocat.io/pkg => ../../pkg
)
