package telemetry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"turbocat.io/contracts/subject"
	contract "turbocat.io/contracts/telemetry"
)

// BenchmarkIntake has 200,000 lines of 40 executions, in batches of 250 as runners send them, go through the stream into the table. They are in
// the stream before; what is measured is how many are stored in a second.
func BenchmarkIntake(b *testing.B) {
	const executions, batches, each = 40, 20, 250
	for range b.N {
		b.StopTimer()
		w := newWorld(b)
		w.stop()
		for range executions {
			execution := newID()
			for batch := range batches {
				lines := make([]contract.LogLine, each)
				for i := range lines {
					lines[i] = line(execution, batch*each+i, func(l *contract.LogLine) {
						l.Message, l.CreatedAt = fmt.Sprintf("fetched page %d of the catalogue of parts, 200 rows, 18 ms", l.Seq), time.Now()
					})
				}
				body, err := json.Marshal(contract.LogBatch{Lines: lines})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := w.conn.JetStream().PublishAsync(subject.Logs(subject.PartitionOf(execution)), body); err != nil {
					b.Fatal(err)
				}
			}
		}
		<-w.conn.JetStream().PublishAsyncComplete()
		b.StartTimer()
		w, stop := w.another()
		for stored := 0; stored < executions*batches*each; <-time.After(10 * time.Millisecond) {
			c, err := w.conn.JetStream().Consumer(context.Background(), subject.LogsStream, "telemetry-logs")
			if err != nil {
				b.Fatal(err)
			}
			stored = int(c.CachedInfo().AckFloor.Stream) * each
		}
		b.StopTimer()
		stop()
	}
	b.ReportMetric(float64(b.N*executions*batches*each)/b.Elapsed().Seconds(), "lines/s")
}
