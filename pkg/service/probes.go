package service

import (
	"context"
	"errors"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"
)

// The probes below write: a server whose disk is full, or that was made read-only, answers reads for ever.

// checkPostgres commits something durable that needs no table: an empty message in the write-ahead log.
func checkPostgres(ctx context.Context, db *sqlx.DB) error {
	var readOnly bool
	// A standby refuses the message. A primary that is set to read-only takes it, and nothing else.
	const write = "SELECT current_setting('transaction_read_only') = 'on' FROM pg_logical_emit_message(true, 'turbocat', '')"
	if err := db.GetContext(ctx, &readOnly, write); err != nil {
		return err
	}
	if readOnly {
		return errors.New("the database takes reads alone; is it a standby, or its disk full?")
	}
	return nil
}

// probeFor is how long Redis keeps what the probe has written.
const probeFor = 10 * time.Second

func checkRedis(ctx context.Context, client *redis.Client, service string) error {
	return client.Set(ctx, "turbocat:probe:"+service, "", probeFor).Err()
}

// measurePool shows how the connections of db are used.
func measurePool(r prometheus.Registerer, db *sqlx.DB) {
	with := promauto.With(r)
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postgres_connections_open", Help: "Connections to PostgreSQL that are open.",
	}, func() float64 { return float64(db.Stats().OpenConnections) })
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postgres_connections_in_use", Help: "Connections to PostgreSQL that are at work.",
	}, func() float64 { return float64(db.Stats().InUse) })
	with.NewCounterFunc(prometheus.CounterOpts{
		Name: "postgres_waits_total", Help: "How often a query had to wait for a connection.",
	}, func() float64 { return float64(db.Stats().WaitCount) })
	with.NewCounterFunc(prometheus.CounterOpts{
		Name: "postgres_wait_seconds_total", Help: "How long queries have waited for a connection, all together.",
	}, func() float64 { return db.Stats().WaitDuration.Seconds() })
}

// measureRedis shows how the connections of client are used.
func measureRedis(r prometheus.Registerer, client *redis.Client) {
	with := promauto.With(r)
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "redis_connections_open", Help: "Connections to Redis that are open.",
	}, func() float64 { return float64(client.PoolStats().TotalConns) })
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "redis_connections_in_use", Help: "Connections to Redis that are at work.",
	}, func() float64 {
		s := client.PoolStats()
		return float64(s.TotalConns) - float64(s.IdleConns)
	})
	with.NewCounterFunc(prometheus.CounterOpts{
		Name: "redis_pool_timeouts_total", Help: "How often a command had no connection in time.",
	}, func() float64 { return float64(client.PoolStats().Timeouts) })
}
