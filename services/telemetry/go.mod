module turbocat.io/services/telemetry

go 1.26.0

require (
	github.com/nats-io/nats.go v1.55.0
	github.com/google/uuid v1.6.0
	github.com/jmoiron/sqlx v1.4.0
	github.com/lib/pq v1.12.3
	github.com/rs/zerolog v1.35.1
	go.uber.org/goleak v1.3.0
)

require (
	turbocat.io/contracts v0.0.0
	turbocat.io/pkg v0.0.0
	turbocat.io/migrations v0.0.0
)

replace (
	turbocat.io/contracts => ../../contracts
	turbocat.io/pkg => ../../pkg
	turbocat.io/migrations => ../../migrations
)
