package seed

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf answers as catalog and identity do about what is there already.
type shelf struct {
	mu      sync.Mutex
	taken   map[string]bool
	owners  map[string]bool
	refuses error
}

func (s *shelf) put(caller rpc.Caller, req catalog.CreateRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refuses != nil:
		return s.refuses
	case s.taken[req.ID]:
		return errs.New(errs.Conflict, "taken")
	}
	s.taken[req.ID], s.owners[caller.UserID+" "+caller.Role] = true, true
	return nil
}

func start(t *testing.T) (*shelf, *bus.Conn) {
	t.Helper()
	b := bustest.New(t)
	s := &shelf{taken: map[string]bool{}, owners: map[string]bool{}}
	server := bus.NewServer(catalog.Service, zerolog.Nop())
	bus.Handle(server, catalog.CreateAgent, func(_ context.Context, c rpc.Caller, r catalog.CreateRequest) (catalog.Agent, error) {
		return catalog.Agent{}, s.put(c, r)
	})
	bus.Handle(server, catalog.CreateWorkflow, func(_ context.Context, c rpc.Caller, r catalog.CreateRequest) (catalog.Workflow, error) {
		return catalog.Workflow{}, s.put(c, r)
	})
	bustest.Serve(t, b, server)
	accounts := bus.NewServer(identity.Service, zerolog.Nop())
	passwords := map[string]string{}
	bus.Handle(accounts, identity.SeedUser, func(_ context.Context, _ rpc.Caller, r identity.SeedUserRequest) (identity.SeedUserResponse, error) {
		_, known := passwords[r.Email]
		if !known {
			passwords[r.Email] = r.Password
		}
		return identity.SeedUserResponse{User: identity.User{ID: r.ID, Email: r.Email}, Created: !known}, nil
	})
	bus.Handle(accounts, identity.Login, func(_ context.Context, _ rpc.Caller, r identity.LoginRequest) (identity.Session, error) {
		if passwords[r.Email] != r.Password {
			return identity.Session{}, errs.New(errs.Unauthorized, "wrong")
		}
		return identity.Session{}, nil
	})
	bustest.Serve(t, b, accounts)
	awaitServers(t, b)
	return s, b
}

func awaitServers(t *testing.T, b *bus.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bus.DefaultTimeout)
	defer cancel()
	for ctx.Err() == nil {
		_, login := bus.Call(ctx, b, identity.Login, rpc.Caller{}, identity.LoginRequest{Email: "x", Password: "y"})
		_, list := bus.Call(ctx, b, catalog.CreateAgent, rpc.Caller{}, catalog.CreateRequest{ID: "probe"})
		if errs.CodeOf(login) == errs.Unauthorized && (list == nil || errs.CodeOf(list) == errs.Conflict) {
			return
		}
	}
	t.Fatal("the servers do not answer")
}

func TestSeedingIsRepeatable(t *testing.T) {
	s, b := start(t)
	ctx := t.Context()
	admin, err := Admin(ctx, b, "admin@x.y", "one")
	if err != nil || !admin.Created || !admin.Works(ctx, b) {
		t.Fatalf("%+v, %v", admin, err)
	}
	for password, works := range map[string]bool{"one": true, "two": false} {
		again, err := Admin(ctx, b, "admin@x.y", password)
		if err != nil || again.Created || again.Works(ctx, b) != works {
			t.Errorf("again with %s: %+v, %v", password, again, err)
		}
	}
	demo, err := Demo(ctx, b, "p")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Samples(ctx, b, demo); err != nil {
			t.Fatal(err)
		}
	}
	delete(s.taken, "probe")
	delete(s.owners, " ")
	if len(s.taken) != 7 || len(s.owners) != 1 || !s.owners[demoID+" ADMIN"] {
		t.Errorf("made %v for %v", s.taken, s.owners)
	}
	s.refuses = errs.New(errs.Validation, "odd")
	if err := Samples(ctx, b, demo); errs.CodeOf(err) != errs.Validation {
		t.Errorf("a refusal: %v", err)
	}
}

func TestSamplesHaveSixSteps(t *testing.T) {
	var all struct {
		Workflows []struct {
			Body struct{ Steps []json.RawMessage }
		}
	}
	if err := json.Unmarshal(samples, &all); err != nil {
		t.Fatal(err)
	}
	steps := 0
	for _, w := range all.Workflows {
		steps += len(w.Body.Steps)
	}
	if len(all.Workflows) != 2 || steps != 6 {
		t.Errorf("%d workflows with %d steps", len(all.Workflows), steps)
	}
}
