//go:build unix

package allinone

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/examples"
	"turbocat.io/pkg/bus"
	"turbocat.io/tools/internal/client"
	"turbocat.io/tools/internal/datadir"
	"turbocat.io/tools/internal/rotation"
	"turbocat.io/tools/internal/run"
	"turbocat.io/tools/internal/seed"
	"turbocat.io/tools/internal/workflowfile"
)

// startedMark is set in a data folder once its first start has told the credentials. Until then every start
// is the first one: it makes what is missing and tells them again.
const startedMark = "started"

// DemoPassword is what the data folder calls the password of the demo account.
const DemoPassword = "DEMO_PASSWORD"

// accounts are those that an installation begins with.
type accounts struct {
	admin, demo           seed.Account
	adminWorks, demoWorks bool
	given                 bool // the environment named the administrator's password
	first                 bool // the data folder's first start
	keys                  string
}

// populate makes the accounts and samples that are not there. A password stands in the data folder before the
// account that it opens is made, so that whatever is told later is right, also after a kill.
func populate(ctx context.Context, dir *datadir.Dir, environ map[string]string, natsURL string, log zerolog.Logger) (accounts, error) {
	started, err := dir.Mark(startedMark)
	if err != nil {
		return accounts{}, err
	}
	a := accounts{first: !started, keys: dir.Path("keys")}
	email, password := "", ""
	if a.first {
		email, password = environ["TURBOCAT_ADMIN_EMAIL"], environ["TURBOCAT_ADMIN_PASSWORD"]
		a.given = password != ""
	}
	if !a.given {
		if password, err = dir.Password("ADMIN_PASSWORD"); err != nil {
			return a, err
		}
	}
	demoPassword, err := dir.Password(DemoPassword)
	if err != nil {
		return a, err
	}
	b, err := bus.Connect(ctx, natsURL, "turbocat-dev", log)
	if err != nil {
		return a, err
	}
	defer b.Close()
	if a.admin, err = seed.Admin(ctx, b, cmp.Or(email, "admin@turbocat.dev"), password); err != nil {
		return a, adminFault(err)
	}
	if a.demo, err = seed.Demo(ctx, b, demoPassword); err != nil {
		return a, err
	}
	if a.first {
		a.adminWorks, a.demoWorks = a.admin.Works(ctx, b), a.demo.Works(ctx, b)
	}
	return a, seed.Samples(ctx, b, a.demo)
}

// rotate seals secrets under the current key when the environment has old ones.
func rotate(ctx context.Context, environ map[string]string, natsURL string, log zerolog.Logger) error {
	if environ["TURBOCAT_OLD_ENCRYPTION_KEYS"] == "" {
		return nil
	}
	b, err := bus.Connect(ctx, natsURL, "turbocat-dev", log)
	if err != nil {
		return err
	}
	defer b.Close()
	if _, err := rotation.Run(ctx, b, func(rotation.Report) {}); err != nil {
		log.Warn().Err(err).Msg("secrets are not all sealed under the current key yet; the next start goes on")
	}
	return nil
}

// adminFault words what is wrong with the administrator's account by the variables that name it.
func adminFault(err error) error {
	var e *errs.Error
	if !errors.As(err, &e) || e.Code != errs.Validation {
		return err
	}
	var faults []string
	for _, d := range e.Details {
		name := map[string]string{"email": "TURBOCAT_ADMIN_EMAIL", "password": "TURBOCAT_ADMIN_PASSWORD"}[d.Field]
		faults = append(faults, strings.TrimSpace(name+": "+d.Message))
	}
	return errors.New(strings.Join(faults, "\n  "))
}

// tell tells the credentials of accounts that are new, and at the first start of all.
func (a accounts) tell(say func(string, ...any)) {
	if !a.first && !a.admin.Created && !a.demo.Created {
		return
	}
	show := func(who string, account seed.Account, works bool, given bool) {
		password := account.Password
		switch {
		case !works && !account.Created:
			password = "(was there before; its password is as it was)"
		case given:
			password = "(the password is that of TURBOCAT_ADMIN_PASSWORD)"
		}
		say("  %-13s  %-*s  %s", who, max(len(a.admin.Email), len(a.demo.Email)), account.Email, password)
	}
	show("administrator", a.admin, a.adminWorks, a.given)
	show("demo user", a.demo, a.demoWorks, false)
	say("  Generated passwords are shown this once; they are kept in %s.\n", a.keys)
}

// sample runs the first example as the demo user. That it fails stops nothing.
func sample(ctx context.Context, c config, demo seed.Account, o Options, say func(string, ...any)) {
	x, err := runSample(ctx, c, demo, &run.Progress{Out: o.Out, Live: o.Live})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		say("\nThe sample workflow did not complete: %v\n", err)
	default:
		say("\n%s\n", run.Pretty(x.Outputs))
		at := ""
		if c.Port != defaultPort {
			at = " --url " + c.url()
		}
		say("Again: bin/turbocat run examples/timezones/workflow.yaml --input text=@examples/timezones/tzdata.zi%s\n", at)
	}
}

func runSample(ctx context.Context, c config, demo seed.Account, p *run.Progress) (orchestrator.Execution, error) {
	raw, text := examples.Timezones()
	file, err := workflowfile.Parse("examples/timezones/workflow.yaml", raw)
	if err != nil {
		return orchestrator.Execution{}, err
	}
	inputs, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return orchestrator.Execution{}, err
	}
	api, err := client.Login(ctx, c.url(), demo.Email, demo.Password)
	if err != nil {
		return orchestrator.Execution{}, err
	}
	defer api.Close()
	x, err := run.Run(ctx, api, file, inputs, p)
	if err == nil && x.Status != orchestrator.ExecutionCompleted {
		err = errors.New(run.Failure(ctx, api, x))
	}
	return x, err
}
