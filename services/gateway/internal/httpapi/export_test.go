package httpapi

import (
	"time"

	"github.com/gofiber/fiber/v2"
)

// Routes lists what the app answers.
func Routes(a *API) []fiber.Route { return a.app.GetRoutes(true) }

// SetSlowest shortens the patience with clients that do not read.
func SetSlowest(a *API, d time.Duration) { a.slowest = d }

// SetWriteTimeout shortens the patience with clients that do not read an answer, before there are any.
func SetWriteTimeout(a *API, d time.Duration) { a.app.Server().WriteTimeout = d }

// SetBusiest lowers how many requests may be worked on at once.
func SetBusiest(a *API, n int64) { a.busiest = n }

// OpenConnections counts the clients that are connected.
func OpenConnections(a *API) int { return int(a.app.Server().GetOpenConnectionsCount()) }
