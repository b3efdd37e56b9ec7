package dealing

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"turbocat.io/contracts/catalog"
)

// Measure registers how the lines of all agent types are.
func (d *Dealer) Measure(r prometheus.Registerer) {
	gauge := func(name, help, agentType string, of func(Standing) float64) {
		promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"agent_type": agentType}}, func() float64 {
			return of(d.total(agentType))
		})
	}
	for _, t := range catalog.RunnerAgentTypes() {
		gauge("steps_waiting", "Ready steps that wait in this process for their turn, by agent type.", t, func(s Standing) float64 { return float64(s.Waiting) })
		gauge("steps_waiting_oldest_seconds", "How long the ready step has waited that has waited for the longest in this process, by agent type.", t, func(s Standing) float64 {
			if s.Oldest.IsZero() {
				return 0
			}
			return time.Since(s.Oldest).Seconds()
		})
		gauge("steps_dealt", "Ready steps of this process that STEPS has, or runners have, by agent type.", t, func(s Standing) float64 { return float64(s.Dealt) })
		gauge("runner_slots", "How many attempts the runners that are alive run at once, by agent type.", t, func(s Standing) float64 { return float64(s.Slots) })
	}
}
