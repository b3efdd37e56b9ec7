package partitiontest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/partition"
)

// server makes a JetStream that has its streams, and a connection to it.
func server(t *testing.T) (*JetStream, *Connection) {
	t.Helper()
	j := NewJetStream()
	c := j.Connect()
	if s, err := c.Ensure(t.Context()); err != nil || !s.Remade {
		t.Fatalf("ensured %+v, %v", s, err)
	}
	if s, err := c.Ensure(t.Context()); err != nil || s.Remade || s.LogCreated == 0 {
		t.Fatalf("ensured again %+v, %v", s, err)
	}
	return j, c
}

func put(t *testing.T, j *JetStream, p int, id string) {
	t.Helper()
	if err := j.Put(p, partition.Message{ExecutionID: id}); err != nil {
		t.Fatal(err)
	}
}

func next(t *testing.T, r partition.Reader) string {
	t.Helper()
	select {
	case m := <-r.Messages():
		return m.ExecutionID
	case <-time.After(time.Second):
		return ""
	}
}

func TestTheLogIsReadInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, c := server(t)
		put(t, j, 1, "a")
		put(t, j, 2, "b")
		put(t, j, 1, "c")
		r, err := c.Read(t.Context(), 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if !r.Pending() {
			t.Error("nothing is pending")
		}
		synctest.Wait()
		if _, _, _, ok, err := r.Idle(t.Context()); ok && err == nil && len(r.Messages()) < 2 {
			t.Error("it is idle with messages on their way")
		}
		put(t, j, 1, "d")
		put(t, j, 2, "e")
		for _, want := range []string{"a", "c", "d"} {
			if got := next(t, r); got != want {
				t.Errorf("read %q, want %q", got, want)
			}
		}
		upTo, at, delivered, ok, err := r.Idle(t.Context())
		if err != nil || !ok || upTo != 5 || delivered != 4 || at == 0 {
			t.Errorf("idle up to %d, delivered %d, %t, %v", upTo, delivered, ok, err)
		}
		if err := c.Purge(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		s, err := c.Ensure(t.Context())
		if err != nil || s.FirstSeq != 3 || s.LastSeq != 5 {
			t.Errorf("streams %+v, %v", s, err)
		}
		if _, found, err := c.TimeAt(t.Context(), 2); found || err != nil {
			t.Errorf("a purged message is there: %v", err)
		}
	})
}

func TestAStoreThatGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, c := server(t)
		put(t, j, 1, "a")
		before := j.Snapshot()
		put(t, j, 1, "b")
		r, err := c.Read(t.Context(), 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, _ = next(t, r), next(t, r)
		ns, _, _ := c.TimeAt(t.Context(), 2)
		<-time.After(time.Second)
		j.Stop()
		if _, err := c.Ensure(t.Context()); err == nil || j.Put(1, partition.Message{}) == nil {
			t.Error("it answers while it is down")
		}
		j.Restore(before)
		j.Start()
		put(t, j, 1, "c")
		if got := next(t, r); got != "" {
			t.Errorf("the reader goes on with %q", got)
		}
		select {
		case <-r.Resets():
		default:
			t.Error("the reader is not reset")
		}
		if other, found, err := c.TimeAt(t.Context(), 2); err != nil || !found || other == ns {
			t.Errorf("the message at the same sequence: %d, %t, %v; before: %d", other, found, err, ns)
		}
		created, _ := c.Ensure(t.Context())
		j.Lose()
		if s, err := c.Ensure(t.Context()); err != nil || !s.Remade || s.LogCreated == created.LogCreated || s.LastSeq != 0 {
			t.Errorf("streams %+v, %v", s, err)
		}
		for _, name := range []string{subject.ExecutionInputStream, subject.StepsStream, subject.EventsStream} {
			<-time.After(time.Second)
			j.Drop(name)
			if s, err := c.Ensure(t.Context()); err != nil || !s.Remade {
				t.Errorf("without %s: %+v, %v", name, s, err)
			}
		}
	})
}

func send(t *testing.T, c *Connection, token string, dispatch int) uint64 {
	t.Helper()
	seqs := make(chan uint64, 1)
	c.Send(partition.StepMessage{Token: token, Dispatch: dispatch}, func(seq uint64, err error) {
		if err != nil {
			t.Error(err)
		}
		seqs <- seq
	})
	return <-seqs
}

// A server that is killed forgets what it noted of deliveries and acks in its last moments.
func TestAKilledServerForgetsItsLastDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, c := server(t)
		for _, token := range []string{"acked", "held", "acked late", "held late"} {
			send(t, c, token, 1)
		}
		take := func() Delivery {
			t.Helper()
			d, err := j.Take(t.Context(), "r")
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		take()
		take()
		j.Ack(1)
		<-time.After(2 * forgets)
		take()
		take()
		j.Ack(3)
		j.Stop()
		j.Start()
		send(t, c, "new", 1)
		for _, want := range []Delivery{{Seq: 3, Count: 1, Found: true}, {Seq: 4, Count: 1, Found: true}, {Seq: 5, Count: 1}, {Seq: 2, Count: 2, Found: true}} {
			got := take()
			if got.Seq != want.Seq || got.Count != want.Count || got.Found != want.Found {
				t.Errorf("took %+v, want %+v", got, want)
			}
			j.Ack(got.Seq)
		}
	})
}

func TestStepsAreAWorkQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, c := server(t)
		if a, b, again := send(t, c, "t", 1), send(t, c, "t", 2), send(t, c, "t", 1); a != 1 || b != 2 || again != 1 {
			t.Errorf("sent %d, %d, again %d", a, b, again)
		}
		first, err := j.Take(t.Context(), "r")
		if err != nil || first.Seq != 1 || first.Count != 1 {
			t.Fatalf("took %+v, %v", first, err)
		}
		if second, err := j.Take(t.Context(), "r"); err != nil || second.Seq != 2 || !j.Ack(2) || j.Ack(2) {
			t.Errorf("took %+v, %v", second, err)
		}
		<-time.After(4 * time.Second)
		if !j.Extend(1) {
			t.Error("the lease is not extended")
		}
		begin := time.Now()
		if again, err := j.Take(t.Context(), "r"); err != nil || again.Seq != 1 || again.Count != 2 || time.Since(begin) != AckWait {
			t.Errorf("took %+v after %v, %v", again, time.Since(begin), err)
		}
		if !j.Nak(1) {
			t.Error("it is not given back")
		}
		if again, err := j.Take(t.Context(), "r"); err != nil || again.Count != 3 || !j.Ack(1) || len(j.Steps()) != 0 {
			t.Errorf("took %+v, %v; left %v", again, err, j.Steps())
		}
		// An id is known for two minutes, unless the server starts anew after its message is gone.
		if seq := send(t, c, "t", 1); seq != 1 {
			t.Errorf("sent again as %d", seq)
		}
		<-time.After(2 * forgets)
		j.Stop()
		j.Start()
		if seq := send(t, c, "t", 1); seq != 3 {
			t.Errorf("sent after a restart as %d", seq)
		}
		if token, found, err := c.StepAt(t.Context(), 3); token != "t" || !found || err != nil {
			t.Errorf("at 3 stands %q, %t, %v", token, found, err)
		}
		<-time.After(3 * time.Minute)
		if seq := send(t, c, "t", 1); seq != 4 {
			t.Errorf("sent after three minutes as %d", seq)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = j.Take(ctx, "r")
		_, _ = j.Take(ctx, "r")
		if _, err := j.Take(ctx, "r"); err == nil {
			t.Error("there is more to take")
		}
	})
}

func TestStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, c := server(t)
		seq := send(t, c, "t", 1)
		cancelled := j.Cancelled("t")
		for _, tc := range []struct {
			token string
			left  int
		}{{"other", 1}, {"t", 0}, {"t", 0}} { // only a message of the attempt goes
			if err := c.StopAttempt(t.Context(), tc.token, seq); err != nil || len(j.Steps()) != tc.left {
				t.Errorf("stop of %s: %v, %d are left", tc.token, err, len(j.Steps()))
			}
		}
		j.Lose()
		select {
		case <-cancelled:
		default:
			t.Error("the runner is not told")
		}
		if c.StopAttempt(t.Context(), "t", 0) == nil {
			t.Error("a bucket that is gone takes it")
		}
	})
}
