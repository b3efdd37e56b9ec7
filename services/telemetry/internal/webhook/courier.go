package webhook

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/observe"
)

const (
	// atOnce is how many deliveries a process makes at a time.
	atOnce = 256
	// lookEvery is how often a process looks for what is due that nobody has told it of.
	lookEvery = time.Second
	// Lease is for how long a delivery belongs to who has claimed it: longer than an attempt with all that belongs to it.
	Lease = sendTimeout + 30*time.Second
	// drain is for how long requests may go on when the process is to stop.
	drain = 3 * time.Second
	// finishTimeout bounds the transaction that an attempt ends with, which is made though the process is to stop.
	finishTimeout = 10 * time.Second
)

// Job is a delivery that was claimed: one attempt of it is to be made.
type Job struct {
	Webhook Webhook
	Message
	N     int64     // its place in the queue
	First time.Time // when its first attempt began
}

// Result is what came of a job.
type Result struct {
	Job
	Made telemetry.DeliveryAttempt
	// Broken says that it was broken off because the process is to stop. Then nothing came of it, and whoever has it next makes it again.
	Broken bool
	// Judge decides what follows from it, by the standing of the webhook and the time of the database.
	Judge func(s Standing, now time.Time) Verdict
}

// Backlog is what the webhooks of all users have before them.
type Backlog struct {
	Pending  int           // deliveries that wait
	Paused   int           // webhooks that are left alone for a while
	Disabled int           // webhooks that Turbocat has switched off
	Late     time.Duration // for how long the longest has waited that could be made
}

// Queue keeps deliveries that are to be made.
type Queue interface {
	// Claim takes up to most deliveries of one webhook that are due, for Lease; when there are none, it tells after how long the next may be due,
	// at most longest.
	Claim(ctx context.Context, most int, longest time.Duration) (jobs []Job, wait time.Duration, err error)
	// Finish settles attempts of one webhook, in their order, and claims up to most more deliveries of it. It leaves out those whose lease was
	// over and that another process has.
	Finish(ctx context.Context, webhookID string, results []Result, most int) ([]Job, error)
	// Backlog measures the queue.
	Backlog(ctx context.Context) (Backlog, error)
}

// Courier makes the deliveries that are due.
type Courier struct {
	queue  Queue
	sender *Sender
	log    zerolog.Logger
	woken  chan struct{}
	busy   atomic.Int64 // deliveries that are being made

	attempts *prometheus.CounterVec
	seconds  prometheus.Histogram
	backlog  struct{ pending, paused, disabled, late prometheus.Gauge }
}

// NewCourier makes a courier that is measured by what it registers with r; nil registers nothing.
func NewCourier(queue Queue, sender *Sender, log zerolog.Logger, r prometheus.Registerer) *Courier {
	with := promauto.With(r)
	gauge := func(name, help string) prometheus.Gauge {
		return with.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	c := &Courier{
		queue: queue, sender: sender, log: log, woken: make(chan struct{}, 1),
		attempts: with.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_attempts_total", Help: "Requests to webhooks, by what came of them.",
		}, []string{"outcome"}),
		seconds: with.NewHistogram(prometheus.HistogramOpts{Name: "webhook_attempt_duration_seconds", Help: "How long requests to webhooks took.", Buckets: observe.Seconds()}),
	}
	c.backlog.pending = gauge("webhook_deliveries_pending", "Deliveries that wait, of all webhooks.")
	c.backlog.paused = gauge("webhooks_paused", "Webhooks that are left alone for a while because their target fails.")
	c.backlog.disabled = gauge("webhooks_switched_off", "Webhooks that Turbocat has switched off because their target failed for a day.")
	c.backlog.late = gauge("webhook_late_seconds", "For how long the delivery that has waited longest could have been made.")
	return c
}

// Wake has the courier look at once.
func (c *Courier) Wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// Run makes deliveries until ctx ends, and then finishes those that it has begun.
func (c *Courier) Run(ctx context.Context) {
	var under sync.WaitGroup
	defer c.sender.Close()
	defer under.Wait()
	measure := time.NewTicker(10 * time.Second)
	defer measure.Stop()
	failing := false
	for {
		until, err := c.claim(ctx, &under)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			c.log.Warn().Err(err).Msg("webhooks can not be sent; trying again")
		case err == nil && failing:
			c.log.Info().Msg("webhooks are sent again")
		}
		failing = err != nil
		wait := time.NewTimer(max(until, 10*time.Millisecond))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-c.woken:
		case <-wait.C:
		case <-measure.C:
			c.measure(ctx)
		}
		wait.Stop()
	}
}

// claim begins with all webhooks that have something due, and tells in how long something more may be.
func (c *Courier) claim(ctx context.Context, under *sync.WaitGroup) (time.Duration, error) {
	for {
		free := c.free()
		if free <= 0 {
			return lookEvery, nil // whoever ends wakes us
		}
		jobs, wait, err := c.queue.Claim(ctx, min(free, parallel), lookEvery)
		if err != nil {
			return lookEvery, err
		}
		if len(jobs) == 0 {
			return wait, nil
		}
		c.busy.Add(int64(len(jobs)))
		under.Go(func() {
			defer c.Wake()
			c.serve(ctx, jobs)
		})
	}
}

// free is how many more deliveries may be made; below 0 when several webhooks have begun at once.
func (c *Courier) free() int { return atOnce - int(c.busy.Load()) }

// serve makes deliveries of one webhook until it has no more: what has ended is settled together, and as many others are begun.
func (c *Courier) serve(ctx context.Context, jobs []Job) {
	id, ended := jobs[0].Webhook.ID, make(chan Result, parallel)
	for under := 0; ; {
		for _, j := range jobs {
			under++
			go func() { ended <- c.make(ctx, j) }()
		}
		if under == 0 {
			return
		}
		results := []Result{<-ended}
		for more := true; more; {
			select {
			case r := <-ended:
				results = append(results, r)
			default:
				more = false
			}
		}
		under -= len(results)
		jobs = c.settle(ctx, id, results)
	}
}

// settle records what came of attempts, and gives others to be made.
func (c *Courier) settle(ctx context.Context, id string, results []Result) []Job {
	ended := len(results)
	if results = slices.DeleteFunc(results, func(r Result) bool { return r.Broken }); len(results) == 0 {
		c.busy.Add(int64(-ended))
		return nil
	}
	most := max(min(len(results)+c.free(), parallel), 0)
	if ctx.Err() != nil {
		most = 0 // what has begun is finished, and nothing else begun
	}
	finishing, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	more, err := c.queue.Finish(finishing, id, results, most)
	if err != nil {
		c.log.Warn().Err(err).Str("webhookId", id).Int("deliveries", len(results)).Msg("what came of deliveries is not recorded; they are made again")
	}
	c.busy.Add(int64(len(more) - ended))
	return more
}

// make makes one attempt.
func (c *Courier) make(ctx context.Context, j Job) Result {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopping := context.AfterFunc(ctx, func() {
		select {
		case <-sending.Done():
		case <-time.After(drain):
			cancel()
		}
	})
	defer stopping()
	outcome, attempt := c.sender.Send(sending, j.Webhook, j.Message)
	if sending.Err() != nil {
		return Result{Job: j, Broken: true}
	}
	c.seconds.Observe(time.Duration(attempt.DurationMs * int64(time.Millisecond)).Seconds())
	label := "failed"
	if outcome.Delivered {
		label = "delivered"
	}
	c.attempts.WithLabelValues(label).Inc()
	return Result{Job: j, Made: attempt, Judge: func(s Standing, now time.Time) Verdict {
		return Judge(s, outcome, j.Attempt, j.First, now, rand.Float64())
	}}
}

func (c *Courier) measure(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	b, err := c.queue.Backlog(ctx)
	if err != nil {
		return // claiming tells
	}
	c.backlog.pending.Set(float64(b.Pending))
	c.backlog.paused.Set(float64(b.Paused))
	c.backlog.disabled.Set(float64(b.Disabled))
	c.backlog.late.Set(b.Late.Seconds())
}
