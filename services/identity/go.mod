module turbocat.io/services/identity

go 1.26.0

require (
	github.com/google/uuid v1.6.0
	github.com/jmoiron/sqlx v1.4.0
	github.com/lib/pq v1.12.3
	github.com/redis/go-redis/v9 v9.23.0
	github.com/rs/zerolog v1.35.1
	github.com/golang-jwt/jwt/v5 v5.3.1
	golang.org/x/crypto v0.58.0
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
