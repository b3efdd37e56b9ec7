module turbocat.io/tools

go 1.26.0

require (
	github.com/alicebob/miniredis/v2 v2.40.0
	github.com/jmoiron/sqlx v1.4.0
	github.com/lib/pq v1.12.3
	github.com/nats-io/nats-server/v2 v2.15.2
	github.com/nats-io/nats.go v1.55.0
	github.com/rs/zerolog v1.35.1
	github.com/spf13/cobra v1.10.2
	go.uber.org/goleak v1.3.0
	go.yaml.in/yaml/v3 v3.0.6
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
	sigs.k8s.io/yaml v1.6.0
)

require (
	turbocat.io/contracts v0.0.0
	turbocat.io/examples v0.0.0
	turbocat.io/migrations v0.0.0
	turbocat.io/pkg v0.0.0
	turbocat.io/services/catalog v0.0.0
	turbocat.io/services/gateway v0.0.0
	turbocat.io/services/identity v0.0.0
	turbocat.io/services/orchestrator v0.0.0
	turbocat.io/services/runner v0.0.0
	turbocat.io/services/telemetry v0.0.0
)

require (
	github.com/caarlos0/env/v11 v11.4.2 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/getkin/kin-openapi v0.152.0
	github.com/redis/go-redis/v9 v9.23.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
)

replace (
	turbocat.io/contracts => ../contracts
	turbocat.io/examples => ../examples
	turbocat.io/migrations => ../migrations
	turbocat.io/pkg => ../pkg
	turbocat.io/services/catalog => ../services/catalog
	turbocat.io/services/gateway => ../services/gateway
	turbocat.io/services/identity => ../services/identity
	turbocat.io/services/orchestrator => ../services/orchestrator
	turbocat.io/services/runner => ../services/runner
	turbocat.io/services/telemetry => ../services/telemetry
)
