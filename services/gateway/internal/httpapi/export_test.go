package httpapi

import (
	"time"

	"github.com/gofiber/fiber/v2"
)

// Routes lists what the app answers.
func Routes(a *API) []fiber.Route { return a.app.GetRoutes(true) }

// SetSlowest shortens the patience with clients that do not read.
func SetSlowest(a *API, d time.Duration) { a.slowest = d }

// OpenConnections counts the clients that are connected.
func OpenConnections(a *API) int { return int(a.app.Server().GetOpenConnectionsCount()) }
