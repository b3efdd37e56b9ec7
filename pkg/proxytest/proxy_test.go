package proxytest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo starts a server that gives back what it is told.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var working sync.WaitGroup
	working.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			working.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		working.Wait()
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// say says a word and waits for its echo.
func say(c net.Conn, within time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("word")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

func passes(t *testing.T, c net.Conn) {
	t.Helper()
	if err := say(c, 30*time.Second); err != nil {
		t.Fatalf("nothing passes: %v", err)
	}
}

// awaitEnd waits for the end of a connection and gives the error that tells of it.
func awaitEnd(t *testing.T, c net.Conn) error {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, err := c.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
		t.Fatalf("the connection stands: %v", err)
	}
	return err
}

// refused makes a connection and waits until it has failed, at once or a moment later.
func refused(t *testing.T, address string) {
	t.Helper()
	if c, err := net.Dial("tcp", address); err == nil {
		defer func() { _ = c.Close() }()
		_ = awaitEnd(t, c)
	}
}

func TestCutAndReset(t *testing.T) {
	p := New(t, echo(t))
	c := dial(t, p.Addr())
	passes(t, c)
	p.Reset()
	if err := awaitEnd(t, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a reset connection ends with %v", err)
	}
	c = dial(t, p.Addr())
	passes(t, c)
	p.Cut()
	if err := awaitEnd(t, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a cut connection ends with %v", err)
	}
	refused(t, p.Addr())
	p.Heal()
	passes(t, dial(t, p.Addr()))
	if n := p.Dialled(); n != 4 {
		t.Errorf("%d connections were made, want 4", n)
	}
}

func TestServerAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	p, through := Before(t, "http://"+l.Addr().String()+"/path")
	if through != "http://"+p.Addr()+"/path" {
		t.Errorf("the URL through the proxy is %s", through)
	}
	refused(t, p.Addr())
}

func TestBlackHole(t *testing.T) {
	p := New(t, echo(t))
	stands, ends := dial(t, p.Addr()), dial(t, p.Addr())
	passes(t, stands)
	passes(t, ends)
	p.BlackHole()
	if err := say(stands, 500*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a word passes the black hole: %v", err)
	}
	_ = ends.Close()
	if c, err := net.DialTimeout("tcp", p.Addr(), 500*time.Millisecond); err == nil {
		t.Error("the black hole takes a new connection")
		_ = c.Close()
	}
	if n := p.Open(); n != 2 {
		t.Errorf("the proxy has %d connections; the end of one must not be told", n)
	}
	p.Heal()
	_ = stands.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(stands, make([]byte, 4)); err != nil {
		t.Errorf("the word is lost: %v", err)
	}
	passes(t, stands)
	passes(t, dial(t, p.Addr()))
	for deadline := time.Now().Add(30 * time.Second); p.Open() > 2; {
		if time.Now().After(deadline) {
			t.Fatal("an end is not told after the black hole")
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestBlackHoleAcknowledgesNothing shows that it is one for the kernel too, so that time limits of TCP itself count.
func TestBlackHoleAcknowledgesNothing(t *testing.T) {
	p := New(t, echo(t))
	c := dial(t, p.Addr())
	passes(t, c)
	p.BlackHole()
	limit(t, c, 300*time.Millisecond)
	if _, err := c.Write([]byte("word")); err != nil {
		t.Fatal(err)
	}
	if err := awaitEnd(t, c); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("what nobody acknowledges ends with %v", err)
	}
}

func TestSlow(t *testing.T) {
	p := New(t, echo(t))
	c := dial(t, p.Addr())
	p.Slow(100*time.Millisecond, 50*time.Millisecond)
	begin := time.Now()
	passes(t, c)
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Errorf("there and back took %s, want at least twice 50 ms", took)
	}
	// A second word does not wait for the first.
	p.Slow(time.Second, 0)
	begin = time.Now()
	if _, err := c.Write([]byte("word")); err != nil {
		t.Fatal(err)
	}
	<-time.After(50 * time.Millisecond) // so that they travel apart
	passes(t, c)
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 2*time.Second || took > 3500*time.Millisecond {
		t.Errorf("two words there and back took %s, want little more than 2 s", took)
	}
	p.Slow(time.Hour, 0)
	if err := say(c, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a word passes: %v", err)
	}
	p.Reset()
	_ = awaitEnd(t, c)
	p.Heal()
	passes(t, dial(t, p.Addr()))
}

// TestTraps checks what arrives when a trap springs at what a client says.
func TestTraps(t *testing.T) {
	for _, after := range []bool{false, true} {
		server, heard := listener(t)
		p := New(t, server)
		sprung := make(chan struct{})
		if after {
			p.After("COMMIT", func() { close(sprung) })
		} else {
			p.Before("COMMIT", func() { close(sprung) })
		}
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		answer := make([]byte, 100)
		say := func(text string) (string, error) {
			if _, err := c.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			n, err := c.Read(answer)
			return string(answer[:n]), err
		}
		if got, err := say("BEGIN"); err != nil || got != "BEGIN" {
			t.Errorf("answered %q, %v", got, err)
		}
		if got, err := say("COMMIT"); err == nil {
			t.Errorf("answered %q though a trap was set, after: %v", got, after)
		}
		<-sprung
		want := "BEGIN"
		if after {
			want = "BEGINCOMMIT"
		}
		if got := heard(); got != want {
			t.Errorf("the server heard %q, want %q", got, want)
		}
	}
}

// listener is a server that answers what it hears; heard gives all of it once its only connection has ended.
func listener(t *testing.T) (addr string, heard func() string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	all := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			all <- err.Error()
			return
		}
		defer func() { _ = c.Close() }()
		text, buffer := "", make([]byte, 100)
		for {
			n, err := c.Read(buffer)
			text += string(buffer[:n])
			if err != nil {
				all <- text
				return
			}
			_, _ = c.Write(buffer[:n])
		}
	}()
	return l.Addr().String(), func() string { return <-all }
}
