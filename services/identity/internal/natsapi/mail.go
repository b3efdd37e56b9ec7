package natsapi

import (
	"context"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/identity/internal/account"
	"turbocat.io/services/identity/internal/mail"
)

// RegisterMail lets the service answer what is asked about forgotten passwords, and the development mailbox, which is nil where there is none.
func RegisterMail(s *bus.Server, accounts *account.Accounts, mailbox *mail.Mailbox) {
	bus.Handle(s, contract.ForgotPassword, func(ctx context.Context, caller rpc.Caller, req contract.ForgotPasswordRequest) (rpc.Empty, error) {
		return rpc.Empty{}, accounts.ForgotPassword(ctx, account.ClientOf(caller), req.Email)
	})
	bus.Handle(s, contract.ResetPassword, func(ctx context.Context, caller rpc.Caller, req contract.ResetPasswordRequest) (rpc.Empty, error) {
		return rpc.Empty{}, accounts.ResetPassword(ctx, account.ClientOf(caller), req.Token, req.Password)
	})
	bus.Handle(s, contract.ListDevMail, func(_ context.Context, caller rpc.Caller, req contract.ListDevMailRequest) (rpc.List[contract.DevMail], error) {
		switch {
		case !caller.IsAdmin() || caller.APIKeyID != "":
			return rpc.List[contract.DevMail]{}, errs.New(errs.Forbidden, "only an ADMIN who has logged in may read the development mailbox")
		case mailbox == nil:
			return rpc.List[contract.DevMail]{}, errs.New(errs.NotFound, "there is no development mailbox here: mail is sent, or none is configured")
		}
		return mailbox.List(req.Page), nil
	})
}
