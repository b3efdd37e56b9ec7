module turbocat.io/tools

go 1.26.0

require (
	github.com/nats-io/nats.go v1.55.0
	github.com/nats-io/nats-server/v2 v2.15.2
	github.com/jmoiron/sqlx v1.4.0
	github.com/lib/pq v1.12.3
	github.com/rs/zerolog v1.35.1
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
	go.uber.org/goleak v1.3.0
	github.com/alicebob/miniredis/v2 v2.40.0
	github.com/spf13/cobra v1.10.2
	sigs.k8s.io/yaml v1.6.0
)

require (
	turbocat.io/contracts v0.0.0
	turbocat.io/pkg v0.0.0
	turbocat.io/migrations v0.0.0
	turbocat.io/services/catalog v0.0.0
	turbocat.io/services/gateway v0.0.0
	turbocat.io/services/identity v0.0.0
	turbocat.io/services/orchestrator v0.0.0
	turbocat.io/services/runner v0.0.0
	turbocat.io/services/telemetry v0.0.0
)

replace (
	turbocat.io/contracts => ../contracts
	turbocat.io/pkg => ../pkg
	turbocat.io/migrations => ../migrations
	turbocat.io/services/catalog => ../services/catalog
	turbocat.io/services/gateway => ../services/gateway
	turbocat.io/services/identity => ../services/identity
	turbocat.io/services/orchestrator => ../services/orchestrator
	turbocat.io/services/runner => ../services/runner
	turbocat.io/services/telemetry => ../services/telemetry
)
