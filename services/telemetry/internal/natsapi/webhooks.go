package natsapi

import (
	"context"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/services/telemetry/internal/webhook"
)

// RegisterWebhooks lets the service answer the methods of webhooks.
func RegisterWebhooks(server *bus.Server, w *webhook.Webhooks, answers *once.Answers) {
	bus.Handle(server, telemetry.CreateWebhook, once.Shown(answers, telemetry.CreateWebhook.Name, w.Create, notShown))
	bus.Handle(server, telemetry.ListWebhooks, w.List)
	bus.Handle(server, telemetry.GetWebhook, w.Get)
	bus.Handle(server, telemetry.PatchWebhook, w.Patch)
	bus.Handle(server, telemetry.DeleteWebhook, w.Delete)
	bus.Handle(server, telemetry.RotateWebhook, once.Shown(answers, telemetry.RotateWebhook.Name, w.Rotate, notShown))
	bus.Handle(server, telemetry.TestWebhook, w.Test)
	bus.Handle(server, telemetry.ReplayWebhook, w.Replay)
	bus.Handle(server, telemetry.ListDeliveries, w.Deliveries)
	bus.Handle(server, telemetry.GetDelivery, w.Delivery)
	bus.Handle(server, telemetry.ReplayDelivery, w.Again)
}

// notShown is what a repetition is told that issued a secret: whose it is.
func notShown(issued telemetry.IssuedWebhook) error {
	if issued.Secret != "" {
		return nil
	}
	return errs.New(errs.Conflict, "this Idempotency-Key has issued a secret of the webhook %s already, which is shown once; rotate it with a new Idempotency-Key, or delete the webhook", issued.ID)
}

// Notify has identity send users mail.
func Notify(conn *bus.Conn) func(ctx context.Context, userID, subject, text string) error {
	return func(ctx context.Context, userID, subject, text string) error {
		_, err := bus.Call(ctx, conn, identity.NotifyUser, rpc.System(telemetry.Service), identity.NotifyUserRequest{UserID: userID, Subject: subject, Text: text})
		return err
	}
}
