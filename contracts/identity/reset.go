package identity

import (
	"time"

	"turbocat.io/contracts/rpc"
)

// ForgotPasswordRequest asks for a mail with which a new password can be set.
type ForgotPasswordRequest struct {
	Email string `json:"email"`
}

// ResetPasswordRequest sets a new password by the token of a mail.
type ResetPasswordRequest struct {
	Token    string `json:"token"`
	Password string `json:"password"`
}

// DevMail is a mail that was not sent but kept, for development.
type DevMail struct {
	ID      string    `json:"id" format:"uuid"`
	To      string    `json:"to" format:"email"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	SentAt  time.Time `json:"sentAt"`
}

// ListDevMailRequest asks for a page of the development mailbox, newest first. Only page and pageSize of the page are looked at.
type ListDevMailRequest struct {
	rpc.Page
}

// The methods about passwords that were forgotten.
var (
	ForgotPassword = rpc.Method[ForgotPasswordRequest, rpc.Empty]{Service: Service, Name: "forgot_password", Version: 1}
	ResetPassword  = rpc.Method[ResetPasswordRequest, rpc.Empty]{Service: Service, Name: "reset_password", Version: 1}
	// ListDevMail is FORBIDDEN but to an ADMIN, and NOT_FOUND where mail is sent by SMTP.
	ListDevMail = rpc.Method[ListDevMailRequest, rpc.List[DevMail]]{Service: Service, Name: "list_dev_mail", Version: 1}
)
