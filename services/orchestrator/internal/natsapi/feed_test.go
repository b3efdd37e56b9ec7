package natsapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/subject"
)

// TestReadersShareAConsumer has readers come, read on and go while inputs come, the connection breaks and consumers are deleted: each partition's
// inputs are read in their order, each once, by whoever reads it.
func TestReadersShareAConsumer(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	const partitions, inputs = 5, 1500
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	stream, err := tr.js.Stream(ctx, subject.ExecutionInputStream)
	if err != nil {
		t.Fatal(err)
	}
	put := func(p int, body string) {
		for ctx.Err() == nil {
			if _, err := tr.js.Publish(ctx, subject.ExecutionInputRun(p), []byte(body)); err == nil {
				return
			}
			<-time.After(5 * time.Millisecond) // it is disconnected
		}
	}
	read := make([][]uint64, partitions)
	var all sync.WaitGroup
	all.Go(func() {
		r := rand.New(rand.NewPCG(seed, 1))
		for range inputs {
			put(r.IntN(partitions)*r.IntN(2), "") // half of all are of one
		}
		for p := range partitions {
			put(p, "end")
		}
	})
	for p := range partitions {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(2+p)))
			for seq, ended := uint64(0), false; !ended && ctx.Err() == nil; {
				reader, err := tr.Read(ctx, p, seq+1)
				if err != nil {
					continue // it is disconnected
				}
				for left := 1 + r.IntN(200); left > 0 && !ended; left-- {
					select {
					case m := <-reader.Messages():
						seq, ended = m.Seq, string(m.Body) == "end"
						read[p] = append(read[p], seq)
					case <-reader.Resets():
						left = 0
					case <-time.After(time.Second): // as an owner reads again that looks for what it lacks
						left = 0
					}
				}
				reader.Close()
			}
		})
	}
	all.Go(func() {
		for n := range 6 {
			<-time.After(100 * time.Millisecond)
			if n%2 == 0 {
				if err := tr.js.Conn().ForceReconnect(); err != nil {
					t.Error(err)
				}
				continue
			}
			for name := range stream.ConsumerNames(ctx).Name() {
				_ = stream.DeleteConsumer(ctx, name) // it may have gone by itself
			}
		}
	})
	all.Wait()
	if ctx.Err() != nil {
		t.Fatal("not everything is read in time")
	}
	info, err := stream.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := make([][]uint64, partitions)
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		m, err := stream.GetMsg(ctx, seq)
		if err != nil {
			t.Fatal(err)
		}
		if p := partitionOf(m.Subject); len(want[p]) < len(read[p]) || string(m.Data) != "end" { // the end may stand there twice
			want[p] = append(want[p], seq)
		}
	}
	for p := range partitions {
		if !slices.Equal(read[p], want[p]) {
			t.Errorf("partition %d: %s", p, firstDifference(read[p], want[p]))
		}
	}
}

func firstDifference(got, want []uint64) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("input %d is read instead of %d, as number %d", got[i], want[i], i)
		}
	}
	return fmt.Sprintf("%d inputs are read of %d", len(got), len(want))
}

// A reader that takes nothing holds up the others for as long as it is open, and no longer; one that joins meanwhile gets everything.
func TestAReaderThatDoesNotReadIsClosed(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	slow, err := tr.Read(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	quick, err := tr.Read(t.Context(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range readAhead + 1 {
		tr.put(t, 0, map[string]string{event.HeaderType: "x"}, "")
	}
	last := tr.put(t, 1, map[string]string{event.HeaderType: "x"}, "")
	slow.Close()
	if m := next(t, quick); m.Seq != last {
		t.Errorf("input %d, not %d", m.Seq, last)
	}
	quick.Close()
	again, err := tr.Read(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for want := uint64(1); want < last; want++ {
		if m := next(t, again); m.Seq != want {
			t.Fatalf("input %d, not %d", m.Seq, want)
		}
	}
}

func TestPartitionOf(t *testing.T) {
	for name, want := range map[string]int{
		subject.ExecutionInputRun(0): 0, subject.ExecutionInputControl(31): 31, "exec.in.x.run": -1, "exec.in": -1, "": -1,
	} {
		if got := partitionOf(name); got != want {
			t.Errorf("%q is of partition %d, not %d", name, got, want)
		}
	}
}
