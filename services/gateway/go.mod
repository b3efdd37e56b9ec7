module turbocat.io/services/gateway

go 1.26.0

require (
	github.com/google/uuid v1.6.0
	github.com/rs/zerolog v1.35.1
	github.com/redis/go-redis/v9 v9.23.0
	github.com/gofiber/fiber/v2 v2.52.15
	github.com/danielgtaylor/huma/v2 v2.37.2
	github.com/swaggest/swgui v1.8.5
	github.com/go-redis/redis_rate/v10 v10.0.1
	github.com/valyala/fasthttp v1.72.0
	go.uber.org/goleak v1.3.0
)

require (
	turbocat.io/contracts v0.0.0
	turbocat.io/pkg v0.0.0
)

replace (
	turbocat.io/contracts => ../../contracts
	turbocat.io/pkg => ../../pkg
)
